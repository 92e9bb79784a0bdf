package app_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/wxrelay/wxrelay/scripts/openapi"
)

func describedClient(t *testing.T) *http.Client {
	t.Helper()
	return &http.Client{Transport: openapi.Described(t).Transport(http.DefaultTransport, func(fault string) { t.Error(fault) })}
}

// describedEvents fails the test for every event that does not fit its schema.
func describedEvents(t *testing.T, next http.Handler) http.Handler {
	c := openapi.Described(t)
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
