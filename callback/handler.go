package callback

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// Sink stores a proven push. It returns when the push and all its consequences are durable; an error makes WeChat
// push again. A reply that is not empty becomes the passive reply, encrypted as the push was. ctx ends with the
// budget, not with the connection; what the sink returns after that is not used. The sink may keep p.
type Sink func(ctx context.Context, p *Push) (reply []byte, err error)

// HandlerOptions are the limits of a [Handler] and the functions it reports to. Zero values get the defaults.
type HandlerOptions struct {
	BodyLimit int64         // bytes of a body; 256 KiB
	Budget    time.Duration // from the beginning of a request to its answer; 4 s, WeChat waits 5
	// OnResult is called for every request with the app's name ("" when there is no such app), the event or kind of
	// message (one of a fixed set, else "other"; "" when nothing was proven), and one of the Result constants.
	OnResult func(app, event, result string)
	// OnError is called with the reason why a proven push was not accepted: the sink's error, [ErrMalformed] or
	// [ErrLate].
	OnError func(app string, err error)
}

// The results of a request, as OnResult gets them.
const (
	ResultTaken     = "taken"     // 200 success
	ResultReplied   = "replied"   // 200 with a passive reply
	ResultEchoed    = "echoed"    // 200, a URL check
	ResultProbed    = "probed"    // 200 success to CheckContainerPath
	ResultUnproven  = "unproven"  // 403
	ResultMalformed = "malformed" // 400
	ResultTooLarge  = "too_large" // 413
	ResultFailed    = "failed"    // 500, the sink failed
	ResultLate      = "late"      // 500, the budget passed
	ResultBusy      = "busy"      // 500, too many bytes of bodies in hand
	ResultMethod    = "method"    // 405
)

// ErrLate is what OnError gets when the sink did not return within the budget.
var ErrLate = errors.New("callback: not taken within the budget")

// Handler serves the callback URLs of all apps: GET is WeChat's check of the URL, POST is a push. It is safe for
// concurrent use.
type Handler struct {
	sink      Sink
	o         HandlerOptions
	verifiers atomic.Pointer[map[string]*Verifier]
	unknown   atomic.Pointer[Verifier] // stands in for apps that do not exist: the same work, never proven
	bodies    bodyMemory
}

// NewHandler makes a handler for the apps. Errors name the app and the field and never a value.
func NewHandler(apps []App, sink Sink, o HandlerOptions) (*Handler, error) {
	if o.BodyLimit <= 0 {
		o.BodyLimit = 256 << 10
	}
	if o.Budget <= 0 {
		o.Budget = 4 * time.Second
	}
	if o.OnResult == nil {
		o.OnResult = func(string, string, string) {}
	}
	if o.OnError == nil {
		o.OnError = func(string, error) {}
	}
	d := &Handler{sink: sink, o: o, bodies: bodyMemory{anyLimit: anyBodies, signedLimit: signedBodies}}
	return d, d.SetApps(apps)
}

// SetApps replaces all apps at once; after an error the old ones stay. Requests in hand end with the app they began
// with.
func (d *Handler) SetApps(apps []App) error {
	var secret [48]byte
	rand.Read(secret[:])
	unknown, err := NewVerifier(App{Name: "unknown", AppID: "wx0000000000000000", Mode: Secure, Key: Key{
		Token:          base64.RawStdEncoding.EncodeToString(secret[:16]),
		EncodingAESKey: base64.RawStdEncoding.EncodeToString(secret[16:]),
	}})
	if err != nil {
		return err
	}
	verifiers := make(map[string]*Verifier, len(apps))
	var faults []error
	anyAge := false // some app takes any age
	rounds, oldest := unknown.rounds, time.Duration(1)
	for _, a := range apps {
		e, err := NewVerifier(a)
		switch {
		case err != nil:
			faults = append(faults, err)
		case verifiers[a.Name] != nil || a.Name == "":
			faults = append(faults, fmt.Errorf("callback: app %q: name missing or twice", a.Name))
		default:
			verifiers[a.Name] = e
			rounds = max(rounds, e.rounds)
			if oldest = max(oldest, a.MaxAge); a.MaxAge == 0 {
				anyAge = true
			}
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if anyAge || len(verifiers) == 0 {
		oldest = 0
	}
	for _, e := range verifiers {
		e.rounds, e.oldest = rounds, oldest
	}
	unknown.rounds, unknown.oldest = rounds, oldest
	d.unknown.Store(unknown)
	d.verifiers.Store(&verifiers)
	return nil
}

// ServeHTTP is [Handler.ServeApp] with the app from the path value "app", as in the pattern "/callback/{app}" of
// [http.ServeMux].
func (d *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.ServeApp(w, r, r.PathValue("app"))
}

// ServeApp answers one request for the app, of the name that stands in the URL. Refusals have no body.
func (d *Handler) ServeApp(w http.ResponseWriter, r *http.Request, app string) {
	began := time.Now()
	e := (*d.verifiers.Load())[app]
	if e == nil {
		e, app = d.unknown.Load(), ""
	}
	switch r.Method {
	case http.MethodPost:
		event, result := d.push(w, r, e, app, began)
		d.o.OnResult(app, event, result)
	case http.MethodGet:
		d.o.OnResult(app, "", d.check(w, r, e, began))
	default:
		w.Header().Set("Allow", "GET, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		d.o.OnResult(app, "", ResultMethod)
	}
}

func (d *Handler) check(w http.ResponseWriter, r *http.Request, e *Verifier, now time.Time) string {
	echo, err := e.VerifyURL(ParseQuery(r.URL.RawQuery), now)
	if err != nil {
		return refuse(w, err)
	}
	answer(w, textPlain, []byte(echo)) // verbatim, and never shown as a page
	return ResultEchoed
}

func (d *Handler) push(w http.ResponseWriter, r *http.Request, e *Verifier, app string, began time.Time) (event, result string) {
	p, err := d.receive(w, r, e, began)
	switch {
	case errors.Is(err, errProbe):
		answer(w, textPlain, success)
		return "", ResultProbed
	case err != nil:
		if errors.Is(err, ErrMalformed) {
			d.o.OnError(app, err)
		}
		return "", refuse(w, err)
	}
	event = p.Event.kind()
	reply, err := d.store(w, r, p, began)
	if err == nil && len(reply) == 0 && e.app.Reply == "transfer_customer_service" {
		reply = TransferCustomerService(p)
	}
	if err == nil && len(reply) > 0 {
		reply, err = p.EncryptReply(reply, time.Now())
	}
	switch {
	case errors.Is(err, ErrLate): // and answered
		d.o.OnError(app, err)
		return event, ResultLate
	case err != nil:
		d.o.OnError(app, err)
		w.WriteHeader(http.StatusInternalServerError)
		return event, ResultFailed
	case len(reply) == 0:
		answer(w, textPlain, success)
		return event, ResultTaken
	case p.outer == XML:
		answer(w, textXML, reply)
	default:
		answer(w, textJSON, reply)
	}
	return event, ResultReplied
}

var errProbe = errors.New("callback: CheckContainerPath")

// store gives the push to the sink. A connection that is gone does not stop it: WeChat's next delivery finds the push
// stored. When the budget ends the answer is 500, whether the sink has returned or not; then the error is ErrLate and
// the answer is written.
func (d *Handler) store(w http.ResponseWriter, r *http.Request, p *Push, began time.Time) (reply []byte, err error) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), began.Add(d.o.Budget))
	defer cancel()
	answered := make(chan struct{})
	inTime := context.AfterFunc(ctx, func() {
		defer close(answered)
		w.Header()["Content-Length"] = nothing // a complete answer, sent before the handler returns
		w.WriteHeader(http.StatusInternalServerError)
		_ = http.NewResponseController(w).Flush()
	})
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, fmt.Errorf("callback: the sink panicked: %v\n%s", p, debug.Stack())
		}
		if !inTime() {
			<-answered
			reply, err = nil, ErrLate
		}
	}()
	return d.sink(ctx, p)
}

// isProbe says whether this is CheckContainerPath, with which WeChat's cloud hosting checks the path. It is not
// signed, and the answer depends on nothing (DECISIONS.md 7).
// https://developers.weixin.qq.com/miniprogram/dev/wxcloudservice/wxcloudrun/src/guide/weixin/push
func isProbe(q *Query, body []byte) bool {
	if len(body) == 0 || len(body) > maxProbe || q.signed() || !bytes.Contains(body, []byte("CheckContainerPath")) {
		return false
	}
	packed := strings.Join(strings.Fields(strings.TrimPrefix(string(body), "\ufeff")), "")
	return packed == `{"action":"CheckContainerPath"}` || packed == "<xml><action>CheckContainerPath</action></xml>" ||
		packed == "<xml><action><![CDATA[CheckContainerPath]]></action></xml>"
}

var (
	success   = []byte("success")
	nothing   = []string{"0"}
	textPlain = []string{"text/plain; charset=utf-8"}
	textJSON  = []string{"application/json; charset=utf-8"}
	textXML   = []string{"text/xml; charset=utf-8"}
	noSniff   = []string{"nosniff"}
)

func answer(w http.ResponseWriter, kind []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = kind
	h["X-Content-Type-Options"] = noSniff
	_, _ = w.Write(body) // after a write error WeChat pushes again
}

// refuse answers with a status only.
func refuse(w http.ResponseWriter, err error) string {
	status, result := http.StatusForbidden, ResultUnproven
	switch {
	case errors.Is(err, ErrMalformed):
		status, result = http.StatusBadRequest, ResultMalformed
	case errors.Is(err, errTooLarge):
		status, result = http.StatusRequestEntityTooLarge, ResultTooLarge
	case errors.Is(err, errBusy):
		status, result = http.StatusInternalServerError, ResultBusy
	case errors.Is(err, ErrLate):
		status, result = http.StatusInternalServerError, ResultLate
	}
	w.WriteHeader(status)
	return result
}

// kind is the event's or message's name for counting, out of a fixed set.
func (ev *Event) kind() string {
	name := ev.Event
	switch {
	case ev.Component != nil:
		name = ev.Component.InfoType
	case ev.MsgType != "event":
		name = ev.MsgType
	}
	if kinds[name] {
		return name
	}
	return "other"
}

var kinds = func() map[string]bool {
	known := make(map[string]bool)
	for _, name := range strings.Fields(`
		text image miniprogrampage voice video shortvideo location link
		subscribe_msg_popup_event subscribe_msg_change_event subscribe_msg_sent_event TEMPLATESENDJOBFINISH
		user_enter_tempsession user_authorization_revoke user_authorization_cancellation user_info_modified
		notify_service_msg_send_result wxa_punish_event wxa_media_check
		trade_manage_order_settlement trade_manage_remind_shipping trade_manage_remind_access_api
		xpay_goods_deliver_notify xpay_coin_pay_notify xpay_refund_notify xpay_complaint_notify
		minigame_coin_deliver_completed minigame_game_pay_goods_deliver_notify minigame_h5_goods_deliver_notify
		subscribe unsubscribe SCAN CLICK VIEW LOCATION view_miniprogram debug_demo
		component_verify_ticket authorized unauthorized updateauthorized`) {
		known[name] = true
	}
	return known
}()
