package callback

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// benchApp has the key of the second vector: not zero, trailing bits set.
var benchApp = App{Name: "shop", AppID: "wxb11529c136998cb6", Key: Key{Token: "pamtest", EncodingAESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"}}

var benchTime = time.Unix(1714112445, 0)

// popup is the largest popup event within 1 KiB in the format.
func popup(tb testing.TB, format Format) []byte {
	tb.Helper()
	ev := Event{ToUserName: "gh_97417a04a28d", FromUserName: "o9AgO5Kd5ggOC-bXrbNODIiE3bGY", CreateTime: 1714112445, MsgType: "event", Event: "subscribe_msg_popup_event"}
	var last []byte
	for n := 0; ; n++ {
		raw, err := Compose(format, ev)
		if err != nil {
			tb.Fatal(err)
		}
		if len(raw) > 1024 {
			return last
		}
		last = raw
		ev.Subscribes = append(ev.Subscribes, Subscribe{TemplateID: fmt.Sprintf("VRR0UEO9VJOLs0MHlU0OilqX6MVFDwH3_3gz3Oc0N%02d", n), Status: "accept", PopupScene: "0"})
	}
}

func sealedPush(tb testing.TB, a App, format Format, raw []byte) (Query, []byte) {
	tb.Helper()
	query, body, err := ComposeRequest(a, format, raw, "415670741", benchTime)
	if err != nil {
		tb.Fatal(err)
	}
	return ParseQuery(query), body
}

func TestAllocations(t *testing.T) {
	e, err := NewVerifier(benchApp)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{XML, JSON} {
		q, body := sealedPush(t, benchApp, format, popup(t, format))
		if n := testing.AllocsPerRun(200, func() {
			if _, err := e.codec(q, body, benchTime); err != nil {
				t.Fatal(err)
			}
		}); n > 4 && !raceEnabled {
			t.Errorf("%s: verify, decrypt and decode: %v allocations, want at most 4", format, n)
		}
		bad := q
		bad.MsgSignature = strings.Repeat("0", 40)
		if n := testing.AllocsPerRun(200, func() {
			if _, err := e.Verify(bad, body, benchTime); err == nil {
				t.Fatal("accepted")
			}
		}); n > 0 && !raceEnabled {
			t.Errorf("%s: a forged push: %v allocations, want none", format, n)
		}
	}
	query := "signature=6c5c811b55cc85e0e1b54100749188c20beb3f5d&timestamp=1714112445&nonce=415670741&openid=o9&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"
	if n := testing.AllocsPerRun(200, func() { ParseQuery(query) }); n > 0 {
		t.Errorf("query: %v allocations, want none", n)
	}
}

// BenchmarkCodec is verify, decrypt and decode: what the oracle does. BenchmarkOpen also gives the push its name.
func BenchmarkCodecXML(b *testing.B)  { benchmarkOpen(b, XML, (*Verifier).codec) }
func BenchmarkCodecJSON(b *testing.B) { benchmarkOpen(b, JSON, (*Verifier).codec) }
func BenchmarkOpenXML(b *testing.B)   { benchmarkOpen(b, XML, (*Verifier).Verify) }
func BenchmarkOpenJSON(b *testing.B)  { benchmarkOpen(b, JSON, (*Verifier).Verify) }

func (e *Verifier) codec(q Query, body []byte, now time.Time) (*Push, error) {
	s := scratches.Get().(*scratch)
	defer s.free()
	return e.open(s, &q, body, now)
}

func benchmarkOpen(b *testing.B, format Format, open func(*Verifier, Query, []byte, time.Time) (*Push, error)) {
	e, err := NewVerifier(benchApp)
	if err != nil {
		b.Fatal(err)
	}
	raw := popup(b, format)
	q, body := sealedPush(b, benchApp, format, raw)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	defer cpuPerOp(b)()
	for b.Loop() {
		if _, err := open(e, q, body, benchTime); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuPerOp reports the process's CPU time beside the wall clock, which other work on the machine stretches.
func cpuPerOp(b *testing.B) func() {
	b.Helper()
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	began := spent()
	return func() { b.ReportMetric(float64(spent()-began)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkDecodeXML(b *testing.B)  { benchmarkDecode(b, XML) }
func BenchmarkDecodeJSON(b *testing.B) { benchmarkDecode(b, JSON) }

func benchmarkDecode(b *testing.B, format Format) {
	raw := popup(b, format)
	b.ReportAllocs()
	defer cpuPerOp(b)()
	for b.Loop() {
		if _, _, err := Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// The oracle does the same work with the SDK's primitives and the standard library's decoders. Narrow reads into a
// struct that knows nothing but this one event: the least encoding/xml can be asked for.
func BenchmarkOracleXML(b *testing.B)       { benchmarkOracle[wide](b, XML) }
func BenchmarkOracleJSON(b *testing.B)      { benchmarkOracle[wide](b, JSON) }
func BenchmarkOracleNarrowXML(b *testing.B) { benchmarkOracle[narrow](b, XML) }

type narrow struct {
	XMLName                  xml.Name `xml:"xml" json:"-"`
	ToUserName, FromUserName string
	CreateTime               int64
	MsgType, Event           string
	SubscribeMsgPopupEvent   struct {
		List []struct{ TemplateId, SubscribeStatusString, PopupScene string }
	}
}

func benchmarkOracle[T any](b *testing.B, format Format) {
	q, body := sealedPush(b, benchApp, format, popup(b, format))
	b.ReportAllocs()
	defer cpuPerOp(b)()
	for b.Loop() {
		oracle[T](b, format, q, body)
	}
}

func oracle[T any](tb testing.TB, format Format, q Query, body []byte) *T {
	tb.Helper()
	unmarshal := xml.Unmarshal
	if format == JSON {
		unmarshal = json.Unmarshal
	}
	var envelope struct {
		XMLName xml.Name `xml:"xml" json:"-"`
		Encrypt string
	}
	if err := unmarshal(body, &envelope); err != nil {
		tb.Fatal(err)
	}
	if util.Signature(benchApp.Key.Token, q.Timestamp, q.Nonce, envelope.Encrypt) != q.MsgSignature {
		tb.Fatal("signature")
	}
	_, raw, err := util.DecryptMsg(benchApp.AppID, envelope.Encrypt, benchApp.Key.EncodingAESKey)
	if err != nil {
		tb.Fatal(err)
	}
	push := new(T)
	if err := unmarshal(raw, push); err != nil {
		tb.Fatal(err)
	}
	return push
}

func oracleOpen(tb testing.TB, format Format) Event {
	tb.Helper()
	q, body := sealedPush(tb, benchApp, format, popup(tb, format))
	return oracle[wide](tb, format, q, body).event()
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

type again struct{ *bytes.Reader }

func (again) Close() error { return nil }

// BenchmarkServe is the handler without a network: read, proven, decoded, named, handed to a sink that does nothing,
// answered.
func BenchmarkServe(b *testing.B) {
	a := benchApp
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil }, HandlerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	query, body, err := ComposeRequest(a, XML, popup(b, XML), "42", benchTime)
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/callback/shop?"+query, nil)
	r.ContentLength = int64(len(body))
	from := bytes.NewReader(body)
	r.Body = again{from}
	w := &discard{h: make(http.Header)}
	b.ReportAllocs()
	defer cpuPerOp(b)()
	for b.Loop() {
		from.Reset(body)
		d.ServeApp(w, r, "shop")
	}
}
