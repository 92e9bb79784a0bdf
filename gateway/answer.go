package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/wxrelay/wxrelay/relay"
)

// jsonBuffer is a buffer with its encoder; they are reused.
type jsonBuffer struct {
	bytes.Buffer
	enc *json.Encoder
}

var jsonBuffers = sync.Pool{New: func() any {
	s := &jsonBuffer{}
	s.enc = json.NewEncoder(&s.Buffer)
	s.enc.SetEscapeHTML(false)
	return s
}}

// encode writes v as JSON without the escaping of HTML, which would change what partners see of their own texts.
// Of a nil v there is nothing.
func encode(v any) *jsonBuffer {
	s := jsonBuffers.Get().(*jsonBuffer)
	s.Reset()
	switch v := v.(type) {
	case nil:
		return s
	case *relay.Message:
		s.Write(v.AppendJSON(s.AvailableBuffer()))
		return s
	}
	if err := s.enc.Encode(v); err != nil {
		panic("gateway: an answer does not encode: " + err.Error())
	}
	s.Truncate(s.Len() - 1) // the encoder's line feed
	return s
}

// maxKept is the largest buffer worth keeping.
const maxKept = 64 << 10

// free gives the buffer back; its bytes must not be used after that.
func (s *jsonBuffer) free() {
	if s.Cap() <= maxKept {
		jsonBuffers.Put(s)
	}
}

func writeJSON(w http.ResponseWriter, status int, mime string, v any) {
	s := encode(v)
	writeBytes(w, status, mime, s.Bytes())
	s.free()
}

func writeReply(w http.ResponseWriter, r reply) { writeJSON(w, r.status, "application/json", r.body) }

// The values of Content-Type, shared by all answers.
var mimes = map[string][]string{
	"application/json":         {"application/json"},
	"application/problem+json": {"application/problem+json"},
}

// writeBytes answers with a whole body. Nothing here may be cached: every answer is about one caller.
func writeBytes(w http.ResponseWriter, status int, mime string, body []byte) {
	h := w.Header()
	h["Cache-Control"] = noStore
	if len(body) == 0 {
		w.WriteHeader(status)
		if f, ok := w.(interface{ WriteHeaderNow() }); ok {
			f.WriteHeaderNow()
		}
		return
	}
	h["Content-Type"] = mimes[mime]
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the caller is gone
}

var noStore = []string{"no-store"}
