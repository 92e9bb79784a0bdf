package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/relay"
)

type inner struct {
	Name string `json:"name"`
}

type outer struct {
	App  string            `json:"app"`
	N    int               `json:"n"`
	At   *time.Time        `json:"at"`
	In   inner             `json:"in"`
	Many []inner           `json:"many"`
	By   map[string]inner  `json:"by"`
	Any  json.RawMessage   `json:"any"`
	Bag  map[string]string `json:"bag"`
	Own  []apart           `json:"own"`
}

// patient is blamed for what is wrong with its body.
type patient struct {
	outer
	told []relay.Field
}

func (p *patient) Blame(faults []relay.Field) { p.told = faults }

func TestDecodeNamesEveryFault(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	wide := `{"bag":{`
	for i := range 40 {
		wide += `"k` + strings.Repeat("x", i) + `":"v",`
	}
	wide += `"k":"v"}}`
	for name, c := range map[string]struct {
		body   string
		code   Code // "" = fine
		fields []relay.Field
	}{
		"whole":                {`{"app":"shop","n":1,"in":{"name":"x"},"many":[{"name":"a"}],"by":{"k":{"name":"b"}},"any":{"z":[1,{"z":2}]}}`, "", nil},
		"empty object":         {` {} `, "", nil},
		"empty":                {``, Malformed, nil},
		"not an object":        {`[]`, Malformed, nil},
		"null":                 {`null`, Malformed, nil},
		"trailing":             {`{"app":"a"} {}`, Malformed, nil},
		"cut":                  {`{"app":"a"`, Malformed, nil},
		"comma":                {`{"app":"a",}`, Malformed, nil},
		"not utf-8":            {"{\"app\":\"\xff\"}", Malformed, nil},
		"too deep":             {`{"any":` + deep + `}`, Malformed, nil},
		"deep and cut":         {`{"any":` + strings.Repeat("[", 5000), Malformed, nil},
		"wrong type":           {`{"n":"1"}`, Malformed, []relay.Field{{Field: "n", Reason: "a JSON string does not fit here"}}},
		"wrong type inside":    {`{"in":{"name":7}}`, Malformed, []relay.Field{{Field: "in.name", Reason: "a JSON number does not fit here"}}},
		"not a time":           {`{"at":"tomorrow"}`, Malformed, nil},
		"unknown":              {`{"ap":"shop","in":{"nam":"x"}}`, InvalidRequest, []relay.Field{{Field: "ap", Reason: "unknown field"}, {Field: "in.nam", Reason: "unknown field"}}},
		"unknown in a list":    {`{"many":[{"name":"a"},{"x":{"y":[1]}}]}`, InvalidRequest, []relay.Field{{Field: "many[1].x", Reason: "unknown field"}}},
		"unknown in a map":     {`{"by":{"k":{"z":1}}}`, InvalidRequest, []relay.Field{{Field: "by.k.z", Reason: "unknown field"}}},
		"another case":         {`{"App":"shop"}`, InvalidRequest, []relay.Field{{Field: "App", Reason: "unknown field"}}},
		"twice":                {`{"app":"a","app":"b"}`, InvalidRequest, []relay.Field{{Field: "app", Reason: "given twice"}}},
		"twice by an escape":   {`{"app":"a","\u0061pp":"b"}`, InvalidRequest, []relay.Field{{Field: "app", Reason: "given twice"}}},
		"twice where all goes": {`{"any":{"x":1,"x":2}}`, InvalidRequest, []relay.Field{{Field: "any.x", Reason: "given twice"}}},
		"twice among many":     {wide, InvalidRequest, []relay.Field{{Field: "bag.k", Reason: "given twice"}}},
		"in what is apart":     {`{"own":[{"x":1,"x":[{"}":"]"}]},"\"]",[{}],7,[]]}`, "", nil},
		"apart and cut":        {`{"own":[{"x":[1}`, Malformed, nil},
		"apart and crossed":    {`{"own":[{"x":[1}]]}`, Malformed, nil},
		"apart and not JSON":   {`{"own":[{"x":tru}]}`, Malformed, nil},
		"beside what is apart": {`{"own":[{"x":1,"x":2}],"own":[],"y":1}`, InvalidRequest, []relay.Field{{Field: "own", Reason: "given twice"}, {Field: "y", Reason: "unknown field"}}},
		"not JSON and unknown": {`{"ap":tru}`, Malformed, nil},
		"wrong type, unknown":  {`{"n":"1","ap":1}`, Malformed, []relay.Field{{Field: "n", Reason: "a JSON string does not fit here"}, {Field: "ap", Reason: "unknown field"}}},
		"unknown of any type":  {`{"N":"1","n":1,"n":"1"}`, InvalidRequest, []relay.Field{{Field: "N", Reason: "unknown field"}, {Field: "n", Reason: "given twice"}}},
		"same name elsewhere":  {`{"many":[{"name":"a"},{"name":"a"}],"in":{"name":"a"}}`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var v outer
			err := decode([]byte(c.body), &v, InvalidRequest)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var f *fault
			if !errors.As(err, &f) || f.code != c.code {
				t.Fatalf("error %v, want %s", err, c.code)
			}
			if diff := cmp.Diff(c.fields, f.fields); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Who can be blamed is read without the fields at fault, wherever they stand, and told of them.
func TestDecodeReadsAroundFaults(t *testing.T) {
	for body, c := range map[string]struct{ clean, fields string }{
		`{"x":1}`:                                                   {`{}`, "x"},
		`{"x":1,"y":2}`:                                             {`{}`, "x y"},
		`{"x":1,"app":"a"}`:                                         {`{"app":"a"}`, "x"},
		`{"app":"a","x":{"y":[1,","]}}`:                             {`{"app":"a"}`, "x"},
		`{"app":"a" , "x" : 1 , "n":2}`:                             {`{"app":"a","n":2}`, "x"},
		`{"app":"a","x":1,"y":"}","z":[]}`:                          {`{"app":"a"}`, "x y z"},
		`{"x":1,"app":"a","y":2,"n":2,"z":3}`:                       {`{"app":"a","n":2}`, "x y z"},
		`{"app":"a","app":"b","App":"c","n":2}`:                     {`{"app":"a","n":2}`, "app App"},
		`{"in":{"x":1},"many":[{"x":1,"name":"a"},{}]}`:             {`{"in":{},"many":[{"name":"a"},{}]}`, "in.x many[0].x"},
		`{"any":{"k":1,"k":{"z":1,"z":2}},"bag":{"é":"1","é":"2"}}`: {`{"any":{"k":1},"bag":{"é":"1"}}`, "any.k any.k.z bag.é"},
	} {
		var got, want patient
		if err := decode([]byte(body), &got, InvalidRequest); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if err := json.Unmarshal([]byte(c.clean), &want.outer); err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, f := range got.told {
			fields = append(fields, f.Field)
		}
		compact := func(m json.RawMessage) string {
			var b bytes.Buffer
			if json.Compact(&b, m) != nil {
				t.Errorf("%s: %q is no JSON any more", body, m)
			}
			return b.String()
		}
		if got.Any != nil {
			got.Any = json.RawMessage(compact(got.Any))
		}
		if diff := cmp.Diff(want.outer, got.outer); diff != "" || strings.Join(fields, " ") != c.fields {
			t.Errorf("%s blames %q: %s", body, fields, diff)
		}
	}
}

func TestDecodeListsABoundedNumberOfFaults(t *testing.T) {
	body := `{"x0":0`
	for i := range 500 {
		body += `,"` + strings.Repeat("x", i%300+2) + string(rune('a'+i/300)) + `":0`
	}
	var f *fault
	if err := decode([]byte(body+"}"), &outer{}, InvalidRequest); !errors.As(err, &f) || len(f.fields) != maxFaults {
		t.Fatalf("%v", err)
	}
}

// The walker must never be the one who lets something pass that encoding/json would not read, nor stumble over what it does.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"app":"shop","n":1}`, `{"any":[{"a":{}},"\"",-1e3,null]}`, `{"a\\":1}`, `{"in":{"name":"\u00e9"}}`, `{`, `{"x":1,"app":"a","app":2,"own":[{"a":1,"a":2}],"y":1}`, `{"a":}`, "{\"a\":\"\\", `{"n":1}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v, w outer
		if err := decode(body, &v, InvalidRequest); err != nil {
			var ours *fault
			if !errors.As(err, &ours) {
				t.Fatalf("an error of another kind: %v", err)
			}
			if json.Valid(body) && strings.HasPrefix(ours.detail, "not JSON") {
				t.Fatalf("valid, but broken when the fields at fault were cut out: %v", err)
			}
			return
		}
		if err := json.Unmarshal(body, &w); err != nil {
			t.Fatalf("taken, but not JSON: %v", err)
		}
		if diff := cmp.Diff(w, v); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkDecodeMessage(b *testing.B) {
	body := []byte(`{"app":"shop","to":{"openid":"oAnn0000000000000000000000"},"channel":"subscribe","template_id":"T1","page":"pages/order?id=1",` +
		`"data":{"thing1":{"value":"hello"},"amount2":"¥100"},"lang":"zh_CN","miniprogram_state":"formal","no_credit":"refuse","metadata":{"order":"A-1"}}`)
	b.Run("json.Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var req relay.SendRequest
			if err := json.Unmarshal(body, &req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var req relay.SendRequest
			if err := decode(body, &req, InvalidMessage); err != nil {
				b.Fatal(err)
			}
		}
	})
}
