package message

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fill gives every field of a struct something that is not zero, so that one that is not packed shows.
func fill(v reflect.Value, rnd *rand.Rand) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"a", "一杯咖啡", "\x00\n\"", string(make([]byte, 300))}[rnd.IntN(4)] + fmt.Sprint(rnd.IntN(100)))
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{1, 1700000000000, 127, 128}[rnd.IntN(4)])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		v.Elem().SetInt(-int64(rnd.IntN(50000)) - 1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(`{"a":1}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), rnd)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rnd)
		}
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

// TestPackKeepsEveryField: a message comes out of its job as it went in, whatever is in it.
func TestPackKeepsEveryField(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var o Draft
		var s Progress
		fill(reflect.ValueOf(&o).Elem(), rnd)
		fill(reflect.ValueOf(&s).Elem(), rnd)
		o.First, s.Channel = rnd.IntN(3), rnd.IntN(3)
		gotO, gotS, err := Unpack(o.Pack(), s.Pack())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, gotO) + cmp.Diff(s, gotS, cmp.AllowUnexported()); diff != "" {
			t.Fatal(diff)
		}
	}
	gotO, gotS, err := Unpack((&Draft{Channels: []string{"c"}, Payloads: []json.RawMessage{json.RawMessage("")}}).Pack(), (&Progress{}).Pack())
	if err != nil || gotO.Metadata != nil || len(gotS.Steps) != 0 || gotS.Errcode != nil {
		t.Errorf("empty: %+v %+v %v", gotO, gotS, err)
	}
}

// TestUnpackOfAnOlderBuild: a draft that was stored before it could have a trace is read, without one.
func TestUnpackOfAnOlderBuild(t *testing.T) {
	o := Draft{App: "shop", Channels: []string{"subscribe"}, Payloads: []json.RawMessage{json.RawMessage("{}")}, Value: "v"}
	body := o.Pack()
	got, _, err := Unpack(body[:len(body)-1], (&Progress{}).Pack()) // the trace is the last field, and empty
	if diff := cmp.Diff(o, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestUnpackOfAnything: what is cut off, from a newer build, or not ours at all is read or refused, never a panic.
func TestUnpackOfAnything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var o Draft
	var s Progress
	fill(reflect.ValueOf(&o).Elem(), rnd)
	fill(reflect.ValueOf(&s).Elem(), rnd)
	o.First, s.Channel = 1, 1
	body, note := o.Pack(), s.Pack()
	if _, _, err := Unpack(append(body, "more"...), append(note, "more"...)); err != nil {
		t.Errorf("fields of a newer build: %v", err)
	}
	for _, b := range [][]byte{nil, {}, []byte("{}"), {packed}, {packed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if _, _, err := Unpack(b, note); err == nil {
			t.Errorf("%q was a draft", b)
		}
	}
	for i := range body {
		var cut Draft
		_ = cut.unpack(body[:i])
	}
	for range 20000 {
		b, n := append([]byte(nil), body...), append([]byte(nil), note...)
		b[rnd.IntN(len(b))], n[rnd.IntN(len(n))] = byte(rnd.IntN(256)), byte(rnd.IntN(256))
		if o, s, err := Unpack(b, n); err == nil {
			View("msg_1", &o, &s)
		}
	}
}

// TestMessageAsJSON holds the hand-written JSON against encoding/json.
func TestMessageAsJSON(t *testing.T) {
	text := func(s string) *string { return &s }
	code, odd := 43101, "<a href=\"x\">&\u2028\u2029\\ \x00\x1f\x7f\t\n\r\b\f 一杯咖啡 😀 \xff\xfe\xe4\xb8 \ufffd"
	at := time.Date(2026, 11, 27, 1, 2, 3, 450_000_000, time.UTC)
	for _, m := range []Message{
		{},
		{ID: "msg_1", App: "shop", OpenID: "o", Channel: "subscribe", State: "queued", CreatedAt: at, UpdatedAt: at, Metadata: json.RawMessage("{}"), Timeline: []Step{}},
		{ID: odd, App: odd, OpenID: odd, User: text(odd), Channel: odd, TemplateID: text(""), State: odd, MsgID: text("1988810812324364291"), Errcode: &code,
			Errmsg: text(odd), RID: text(odd), Attempts: -3, CreatedAt: at, UpdatedAt: at.Truncate(time.Second), Metadata: json.RawMessage(`{"a":[1,"<&>"]}`),
			Timeline: []Step{{At: at, State: odd, Cause: odd, Errcode: &code}, {At: at, State: "b", Cause: "c"}}},
	} {
		want, got := m, m.AppendJSON(nil)
		if want.Timeline == nil {
			want.Timeline = []Step{}
		}
		if diff := cmp.Diff(string(Encode(want)), string(got)); diff != "" {
			t.Error(diff)
		}
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		b := make([]byte, rnd.IntN(24))
		for i := range b {
			b[i] = byte(rnd.IntN(256))
		}
		if want, got := string(Encode(string(b))), string(AppendText(nil, string(b))); want != got {
			t.Fatalf("%q: %s, want %s", b, got, want)
		}
	}
}
