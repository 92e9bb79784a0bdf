package relay

import (
	"maps"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

// attempt is one entry of a delivery's note. What a partner can derive from the rest is not kept: of the request's headers
// only those that differ from attempt to attempt.
type attempt struct {
	At        int64             `json:"t"` // Unix milliseconds
	Status    int               `json:"s,omitempty"`
	Took      int64             `json:"d"` // milliseconds
	Err       string            `json:"e,omitempty"`
	Answer    string            `json:"a,omitempty"` // the first bytes of it
	Sent      map[string]string `json:"q,omitempty"` // request headers
	Got       map[string]string `json:"r,omitempty"` // response headers
	Shortened bool              `json:"x,omitempty"` // an older one, of which less is kept
}

// What a delivery's note may hold: some 40 KB when every attempt failed with a long answer.
const (
	maxAttemptsKept = 20
	maxAnswerKept   = 4 << 10
	wholeKept       = 5       // the newest attempts, with headers and answer
	oldAnswerKept   = 256     // of the others
	maxGotKept      = 1 << 10 // of an answer's headers, names and values
)

// record adds an outcome to the note.
func (d *delivering) record(out webhook.Outcome) {
	n := &d.note
	n.Total++
	n.Turn, n.Held, n.Lapses = 0, false, d.c.Reclaims
	n.Attempts = append(n.Attempts, attempt{At: d.c.Now.UnixMilli(), Status: out.Status, Took: out.Took.Milliseconds(), Err: out.Err,
		Answer: cut(string(out.Body), maxAnswerKept), Sent: sentHeaders(out.Request, d.e.Headers), Got: gotHeaders(out.Response)})
	if over := len(n.Attempts) - maxAttemptsKept; over > 0 {
		n.Attempts = n.Attempts[over:]
	}
	if old := len(n.Attempts) - wholeKept - 1; old >= 0 {
		a := &n.Attempts[old]
		a.Answer, a.Sent, a.Got, a.Shortened = cut(a.Answer, oldAnswerKept), nil, nil, true
	}
}

// cut shortens a text to at most n bytes, and makes what is not UTF-8 readable: it is shown as JSON.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for i := 0; i < utf8.UTFMax && len(s) > 0; i++ { // a character that was cut in two
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// sentHeaders are a request's headers; the values an endpoint was given for its own are secrets.
func sentHeaders(h http.Header, own map[string]string) map[string]string {
	if h == nil {
		return nil
	}
	out := make(map[string]string, len(h))
	for name, values := range h {
		out[name] = strings.Join(values, ", ")
	}
	delete(out, "Webhook-Id") // both are known
	if out["Content-Type"] == "application/json" {
		delete(out, "Content-Type")
	}
	for name := range own {
		out[http.CanonicalHeaderKey(name)] = kept
	}
	return out
}

// gotHeaders are an answer's headers, as many as there is room for.
func gotHeaders(h http.Header) map[string]string {
	if len(h) == 0 {
		return nil
	}
	out, room := make(map[string]string, len(h)), maxGotKept
	for name, values := range h {
		value := cut(strings.Join(values, ", "), maxGotKept)
		if room -= len(name) + len(value); room < 0 {
			break
		}
		out[cut(name, maxGotKept)] = value
	}
	return out
}

// DeliveryAttempt is one try and its answer. Headers and the answer's first 4 KiB are kept of the newest five.
type DeliveryAttempt struct {
	At              time.Time         `json:"at"`
	Status          *int              `json:"status"`
	TookMS          int64             `json:"took_ms"`
	Error           *string           `json:"error"`
	RequestHeaders  map[string]string `json:"request_headers"`
	ResponseHeaders map[string]string `json:"response_headers"`
	ResponseBody    *string           `json:"response_body"`
}

func (a *attempt) view(env *envelope) DeliveryAttempt {
	out := DeliveryAttempt{At: time.UnixMilli(a.At).UTC(), TookMS: a.Took, Error: some(a.Err), RequestHeaders: a.Sent, ResponseHeaders: a.Got}
	if a.Sent != nil {
		out.RequestHeaders = map[string]string{"Webhook-Id": env.ID, "Content-Type": "application/json"}
		maps.Copy(out.RequestHeaders, a.Sent)
	}
	if a.Status != 0 {
		out.Status, out.ResponseBody = &a.Status, &a.Answer
	}
	return out
}
