package app_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/wxrelay/wxrelay/scripts/openapi"
)

var loadDescription = sync.OnceValues(openapi.Load)

// described is the public face as openapi.yaml has it: what partners ask, are answered and are told is held against it.
func described(t *testing.T) *openapi.Checker {
	t.Helper()
	c, err := loadDescription()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func describedClient(t *testing.T) *http.Client {
	t.Helper()
	return &http.Client{Transport: described(t).Transport(http.DefaultTransport, func(fault string) { t.Error(fault) })}
}

// describedEvents fails the test for every event that does not fit its schema.
func describedEvents(t *testing.T, next http.Handler) http.Handler {
	c := described(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			if err := c.Event(body); err != nil {
				t.Error(err)
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
