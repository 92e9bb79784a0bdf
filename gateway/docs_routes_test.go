package gateway

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTheDocumentsAreOnThePublicDoor(t *testing.T) {
	g := Public(Options{Version: "1.2.3"})
	get := func(target string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		return w
	}
	for target, want := range map[string]string{"/docs": "Concepts", "/docs/sending?lang=zh": "发送消息", "/docs/errcodes": "43101", "/openapi.yaml": "openapi: 3.1.0",
		"/llms.txt": "# wxrelay", "/docs/events/message.sent.json": "$schema", "/docs/assets/style.css": "font"} {
		if w := get(target); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, and no %q", target, w.Code, want)
		}
	}
	w := get("/docs/nothing")
	if w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"code":"not_found"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// Every reaction of the errcode table is told to readers in both languages.
func TestEveryReactionHasItsText(t *testing.T) {
	for _, l := range []string{"en", "zh"} {
		w := httptest.NewRecorder()
		Public(Options{}).ServeHTTP(w, httptest.NewRequest("GET", "/docs/errcodes?lang="+l, nil))
		if strings.Contains(w.Body.String(), "<td></tr>") {
			t.Errorf("a row in %s does not say what the gateway does", l)
		}
	}
}
