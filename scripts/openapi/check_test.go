package openapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestEveryExampleOfAnEventFitsItsSchema(t *testing.T) {
	c := Described(t)
	types := c.Doc.Components.Schemas["EventType"].Value.Enum
	if len(types) != len(c.Doc.Webhooks) {
		t.Errorf("EventType has %d types, webhooks %d", len(types), len(c.Doc.Webhooks))
	}
	for _, name := range types {
		item := c.Doc.Webhooks[name.(string)]
		if item == nil {
			t.Errorf("%s is not among the webhooks", name)
			continue
		}
		raw, err := json.Marshal(item.Post.RequestBody.Value.Content.Get("application/json").Example)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Event(raw); err != nil {
			t.Error(err)
		}
		if item.Post.Summary == "" || item.Post.Extensions["x-summary-zh"] == nil {
			t.Errorf("%s is not described in both languages", name)
		}
	}
}

func TestWhatIsNotInTheDescriptionIsToldOf(t *testing.T) {
	c := Described(t)
	for name, body := range map[string]string{
		"unknown type":  `{"type":"message.gone","timestamp":"2026-12-01T08:00:00Z","data":{}}`,
		"missing field": `{"type":"user.bound","timestamp":"2026-12-01T08:00:00Z","data":{"app":"shop"}}`,
		"extra field":   `{"type":"endpoint.test","timestamp":"2026-12-01T08:00:00Z","data":{"endpoint":"main"},"more":1}`,
	} {
		if c.Event([]byte(body)) == nil {
			t.Errorf("%s passes", name)
		}
	}
	var told []string
	h := c.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ok":true,"more":1}`))
	}), func(s string) { told = append(told, s) })
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/mp/shop/form-ids", strings.NewReader(`{"form_id":"x"}`)))
	if len(told) != 1 || !strings.Contains(told[0], "is not in the description") {
		t.Errorf("told %q", told)
	}
}
