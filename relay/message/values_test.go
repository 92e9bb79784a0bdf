package message

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// WeChat's own form of a value is an object, whose value may be a number; a text or a number alone is short for it.
// A number is written as its digits were.
func TestValuesAreReadInEveryForm(t *testing.T) {
	q, err := Parse([]byte(`{"data":{"number1":{"value":10},"amount2":12.50,"thing3":{"value":"x","color":null},"number4":{"value":"7","color":"#173177"},
		"character_string5":-1e+3,"number6":123456789012345678901234567890,"thing\u0037":{"color":"","value":"一杯\ud83d\ude00"}}}`))
	if err != nil || len(q.issues) > 0 {
		t.Fatal(err, q.issues)
	}
	want := Data{{Name: "number1", Value: "10"}, {Name: "amount2", Value: "12.50"}, {Name: "thing3", Value: "x"},
		{Name: "number4", Value: "7", Color: "#173177"}, {Name: "character_string5", Value: "-1e+3"},
		{Name: "number6", Value: "123456789012345678901234567890"}, {Name: "thing7", Value: "一杯😀"}}
	if diff := cmp.Diff(want, q.Data, cmp.AllowUnexported(Keyword{})); diff != "" {
		t.Error(diff)
	}
	if got := string(q.Data[:2].appendJSON(nil)); got != `{"number1":{"value":"10"},"amount2":{"value":"12.50"}}` {
		t.Error(got)
	}
}

func TestValuesThatAreNone(t *testing.T) {
	for value, want := range map[string]string{
		`true`: "data.k", `null`: "data.k", `[]`: "data.k", `{}`: "data.k", `{"value":null}`: "data.k", `{"value":{"value":"x"}}`: "data.k",
		`{"value":[1]}`: "data.k", `"\ud83d"`: "data.k", `{"value":"\ud83d"}`: "data.k", `{"value":"x","color":7,"size":1}`: "data.k.size",
		`{"value":"x","color":[]}`: "data.k.color", `{"value":"x","value":"y"}`: "data.k.value", `{"color":"\udc00"}`: "data.k.color data.k",
	} {
		q, err := Parse([]byte(`{"data":{"k":` + value + `}}`))
		if got := fieldsOf(q.issues); err != nil || got != want {
			t.Errorf("%s: names %q, want %q (%v)", value, got, want, err)
		}
	}
	if q, err := Parse([]byte(`{"data":{"k":tru}}`)); err == nil {
		t.Error(q.issues)
	}
}
