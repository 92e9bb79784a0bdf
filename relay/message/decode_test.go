package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type named struct {
	Name string `json:"name"`
}

type outer struct {
	App  string            `json:"app"`
	N    int               `json:"n"`
	At   *time.Time        `json:"at"`
	In   named             `json:"in"`
	Many []named           `json:"many"`
	By   map[string]named  `json:"by"`
	Any  json.RawMessage   `json:"any"`
	Bag  map[string]string `json:"bag"`
	Few  []int             `json:"few" max:"3"`
}

// fieldsOf are the fields that issues name, in their order.
func fieldsOf(issues Issues) string {
	var names []string
	for _, i := range issues {
		names = append(names, i.Field)
	}
	return strings.Join(names, " ")
}

func TestDecodeNamesEveryFault(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	wide := `{"bag":{`
	for i := range 40 {
		wide += `"k` + strings.Repeat("x", i) + `":"v",`
	}
	wide += `"k":"v"}}`
	for name, c := range map[string]struct {
		body, detail string // detail "" = read; "." = malformed, whatever the words
		fields       string
	}{
		"whole":                {`{"app":"shop","n":1,"in":{"name":"x"},"many":[{"name":"a"}],"by":{"k":{"name":"b"}},"any":{"z":[1,{"z":2}]}}`, "", ""},
		"empty object":         {` {} `, "", ""},
		"a byte order mark":    {"\ufeff{}", "", ""},
		"two of them":          {"\ufeff\ufeff{}", ".", ""},
		"empty":                {``, ".", ""},
		"not an object":        {`[]`, ".", ""},
		"null":                 {`null`, ".", ""},
		"trailing":             {`{"app":"a"} {}`, ".", ""},
		"cut":                  {`{"app":"a"`, ".", ""},
		"comma":                {`{"app":"a",}`, ".", ""},
		"no comma":             {`{"app":"a" "n":1}`, ".", ""},
		"a tab in a text":      {"{\"app\":\"\t\"}", ".", ""},
		"not UTF-8":            {"{\"app\":\"\xff\"}", "", "app"},
		"not UTF-8, no text":   {"{\xff}", ".", ""},
		"half a character":     {`{"app":"生日快乐\ud83d"}`, "", "app"},
		"the other half":       {`{"app":"\ude00\ud83d"}`, "", "app"},
		"both":                 {`{"app":"\ud83d\ude00","in":{"name":"\uD83D\uDE00"}}`, "", ""},
		"half, then a letter":  {`{"app":"\ud83d\u0041"}`, "", "app"},
		"half in a name":       {`{"any":{"a":{"\ud83d":1}}}`, "", "any.a.\ufffd"},
		"half deep inside":     {`{"any":{"a":[1,"\ud83d"]},"bag":{"x":"\udc00"},"many":[{"name":"\udfff"}]}`, "", "any.a[1] bag.x many[0].name"},
		"a wrong escape":       {`{"app":"\x"}`, ".", ""},
		"a short escape":       {`{"app":"\u12"}`, ".", ""},
		"a signed escape":      {`{"app":"\u+123"}`, ".", ""},
		"too deep":             {`{"any":` + deep + `}`, ".", ""},
		"deep and cut":         {`{"any":` + strings.Repeat("[", 5000), ".", ""},
		"too many":             {`{"few":[1,2,3,4],"x":1}`, "", "few"},
		"too wide":             {`{"any":{` + strings.Repeat(`"":1,`, 2000) + `"a":1}}`, "", strings.TrimSpace(strings.Repeat("any. ", MaxIssues))},
		"wrong type":           {`{"n":"1"}`, ".", "n"},
		"no whole number":      {`{"n":1.5}`, ".", "n"},
		"a number too large":   {`{"n":99999999999999999999}`, ".", "n"},
		"no number":            {`{"n":01}`, ".", ""},
		"wrong type inside":    {`{"in":{"name":7}}`, ".", "in.name"},
		"two wrong types":      {`{"in":{"name":7},"n":[]}`, ".", "in.name n"},
		"not a time":           {`{"at":"tomorrow"}`, ".", "at"},
		"unknown":              {`{"ap":"shop","in":{"nam":"x"}}`, "", "ap in.nam"},
		"unknown in a list":    {`{"many":[{"name":"a"},{"x":{"y":[1]}}]}`, "", "many[1].x"},
		"unknown in a map":     {`{"by":{"k":{"z":1}}}`, "", "by.k.z"},
		"another case":         {`{"App":"shop"}`, "", "App"},
		"twice":                {`{"app":"a","app":"b"}`, "", "app"},
		"twice by an escape":   {`{"app":"a","\u0061pp":"b"}`, "", "app"},
		"twice where all goes": {`{"any":{"x":1,"x":2}}`, "", "any.x"},
		"twice among many":     {wide, "", "bag.k"},
		"not JSON and unknown": {`{"ap":tru}`, ".", "ap"},
		"wrong type, unknown":  {`{"ap":1,"n":"1"}`, ".", "n ap"},
		"unknown of any type":  {`{"N":"1","n":1,"n":"1"}`, "", "N n"},
		"same name elsewhere":  {`{"many":[{"name":"a"},{"name":"a"}],"in":{"name":"a"}}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var v outer
			issues, err := Decode([]byte(c.body), &v)
			if m, ok := errors.AsType[*Malformed](err); ok {
				issues = m.Issues
			}
			if (err != nil) != (c.detail != "") {
				t.Fatalf("%v %v", issues, err)
			}
			if got := fieldsOf(issues); got != c.fields {
				t.Errorf("names %q: %v", got, err)
			}
		})
	}
}

// A body is read without the fields at fault, wherever they stand.
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
		`{"any":{"k":1,"k":{"z":1,"z":2}},"bag":{"é":"1","é":"2"}}`: {`{"any":{"k":1,"k":{"z":1,"z":2}},"bag":{"é":"1"}}`, "any.k any.k.z bag.é"},
	} {
		var got, want outer
		issues, err := Decode([]byte(body), &got)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if err := json.Unmarshal([]byte(c.clean), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || fieldsOf(issues) != c.fields {
			t.Errorf("%s names %q: %s", body, fieldsOf(issues), diff)
		}
	}
}

// Unknown fields of a client that nobody can mend are passed over, whatever is in them.
func TestDecodeLoose(t *testing.T) {
	for body, want := range map[string]string{
		`{"x":{"a":1,"a":"\ud83d"},"app":"shop"}`:                  "",
		`{"app":"\ud83d"}`:                                         "app",
		"{\"x\":\"\xff\",\"app\":\"shop\"}":                        "",
		`{"x":[` + strings.Repeat("0,", 5000) + `0],"app":"shop"}`: "",
	} {
		var v outer
		issues, err := DecodeLoose([]byte(body), &v)
		if err != nil || fieldsOf(issues) != want || want == "" && v.App != "shop" {
			t.Errorf("%.60s: %v %v %+v", body, issues, err, v)
		}
	}
}

// A body that is hostile costs what it says up to the fault, and no more.
func TestDecodeStopsEarly(t *testing.T) {
	const size = 10 << 20
	long := func(begin, again string) []byte { return []byte(begin + strings.Repeat(again, size/len(again))) }
	names := func(begin string) []byte {
		b := []byte(begin)
		for i := 0; len(b) < size; i++ {
			b = fmt.Appendf(b, `"k%d":0,`, i)
		}
		return b
	}
	type batch struct {
		Messages Batch `json:"messages"`
	}
	var large *TooLarge
	var malformed *Malformed
	for name, c := range map[string]struct {
		body []byte
		err  any
	}{
		"no items":         {long(`{"messages":[`, "0,"), &malformed},
		"no objects":       {long(`{"messages":[`, "[],"), &malformed},
		"too many":         {long(`{"messages":[`, "{},"), &large},
		"too deep":         {long(`{"x":`, "["), &malformed},
		"unknown fields":   {names("{"), nil},
		"unknown in depth": {names(`{"x":{`), nil},
		"the same field":   {long(`{`, `"messages":null,`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			v := batch{Batch{Most: 1000}}
			issues, err := Decode(c.body, &v)
			runtime.ReadMemStats(&after)
			if c.err == nil && (err != nil || len(issues) == 0) || c.err != nil && !errors.As(err, c.err) {
				t.Fatalf("%v %v", issues, err)
			}
			if grew := after.TotalAlloc - before.TotalAlloc; grew > 1<<20 {
				t.Errorf("%d bytes allocated", grew)
			}
		})
	}
}

func TestDecodeListsABoundedNumberOfFaults(t *testing.T) {
	body := `{"x0":0`
	for i := range 500 {
		body += `,"` + strings.Repeat("x", i%300+2) + string(rune('a'+i/300)) + `":0`
	}
	if issues, err := Decode([]byte(body+"}"), &outer{}); err != nil || len(issues) != MaxIssues {
		t.Fatalf("%d %v", len(issues), err)
	}
}

// encoding/json is the oracle: what is read without an issue is read alike by it, and what is JSON is never called
// none.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"app":"shop","n":1}`, `{"any":[{"a":{}},"\"",-1e3,null]}`, `{"a\\":1}`, `{"in":{"name":"\u00e9"}}`, `{`, `{"x":1,"app":"a","app":2,"own":[{"a":1,"a":2}],"y":1}`, `{"a":}`, "{\"a\":\"\\", `{"n":1}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v, w outer
		issues, err := Decode(body, &v)
		plain := bytes.TrimPrefix(body, []byte("\ufeff"))
		m, bad := errors.AsType[*Malformed](err)
		switch {
		case bad && m.Syntax && json.Valid(plain):
			t.Fatalf("valid, but refused: %v", err)
		case bad || len(issues) > 0:
			return
		case json.Unmarshal(plain, &w) != nil:
			t.Fatal("read, but not JSON")
		}
		if diff := cmp.Diff(w, v); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	body := []byte(`{"app":"shop","to":{"openid":"oAnn0000000000000000000000"},"channel":"subscribe","template_id":"T1","page":"pages/order?id=1",` +
		`"data":{"thing1":{"value":"hello"},"amount2":"¥100"},"lang":"zh_CN","miniprogram_state":"formal","no_credit":"refuse","metadata":{"order":"A-1"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
