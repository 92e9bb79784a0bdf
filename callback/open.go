// Package callback owns the proof that a push is WeChat's, and the reading of what it says. Nothing leaves it unproven: a
// push is read only after its signature, its cipher, its appid and its age have been checked, and whatever fails gets one
// and the same answer.
package callback

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Mode is how an app's pushes are secured, as set in WeChat's console.
type Mode string

// The modes. A push weaker than its app's mode is refused.
const (
	Secure Mode = "secure"
	Compat Mode = "compat"
	Plain  Mode = "plain"
)

// Format is how a push is written.
type Format string

// The formats, told by the first byte.
const (
	JSON Format = "json"
	XML  Format = "xml"
)

// Key is one pair of the console's Token and EncodingAESKey (43 characters).
type Key struct{ Token, EncodingAESKey string }

// App is what the ear must know of one app.
type App struct {
	Name       string
	AppID      string
	OriginalID string
	Mode       Mode
	Key        Key
	Previous   []Key
	MaxAge     time.Duration
	Reply      string
	PayAppKey  string
}

// The two ways not to be a push.
var (
	ErrUnproven  = errors.New("callback: not proven to be WeChat's")
	ErrMalformed = errors.New("callback: proven, but malformed")
)

// Query is what the URL of a push carries.
type Query struct{ Signature, MsgSignature, Timestamp, Nonce, EchoStr string }

// ParseQuery reads a raw query.
func ParseQuery(raw string) Query { return Query{} }

// Push is a proven push.
type Push struct {
	App, AppID string
	Format     Format
	Raw        []byte
	Event      Event
	Name       string
	Sealed     bool
}

// Seal seals a passive reply in the format and with the key of the push.
func (p *Push) Seal(reply []byte, now time.Time) ([]byte, error) { return reply, nil }

// Ear hears one app.
type Ear struct{}

// NewEar checks the app and prepares its keys.
func NewEar(a App) (*Ear, error) { return &Ear{}, nil }

// Open proves and reads a push.
func (e *Ear) Open(q Query, body []byte, now time.Time) (*Push, error) { return nil, ErrUnproven }

// Decode reads a proven message.
func Decode(raw []byte) (Format, Event, error) { return "", Event{}, ErrMalformed }

// TransferCustomerService is the reply that hands a message to the customer service tool; nil for events.
func TransferCustomerService(p *Push) []byte { return nil }

// Sink takes a proven push.
type Sink func(ctx context.Context, p *Push) (reply []byte, err error)

// DoorOptions are the limits of the door and who is told.
type DoorOptions struct {
	BodyLimit int64
	Budget    time.Duration
	OnResult  func(app, event, result string)
	OnError   func(app string, err error)
}

// Door is the HTTP door of all apps.
type Door struct{}

// NewDoor opens the door.
func NewDoor(apps []App, sink Sink, o DoorOptions) (*Door, error) { return &Door{}, nil }

// SetApps replaces the apps.
func (d *Door) SetApps(apps []App) error { return nil }

// Serve answers one request for the app named.
func (d *Door) Serve(w http.ResponseWriter, r *http.Request, app string) {}

// SealPush writes a push as WeChat would.
func SealPush(a App, format Format, raw []byte, nonce string, at time.Time) (query string, body []byte, err error) {
	return "", nil, nil
}

// Compose writes an event as WeChat would.
func Compose(format Format, e Event) ([]byte, error) { return nil, nil }
