package docs

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func newDocs(t *testing.T) *Docs {
	t.Helper()
	raw, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{OpenAPI: raw, Version: "test", Errcodes: []Errcode{{Code: 43101, Name: "no_credit", Meaning: "no consent left", MeaningZH: "没有剩余次数"}}})
}

func get(t *testing.T, d *Docs, target, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	r.Header.Set("Accept-Language", accept)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

var han = regexp.MustCompile(`\p{Han}{4}`)

// Every link of every page leads somewhere, in both languages.
func TestEveryPageIsThereInBothLanguagesAndItsLinksLeadSomewhere(t *testing.T) {
	d := newDocs(t)
	href := regexp.MustCompile(`(?:href|src)="(/[^"#]*)(?:#([^"]*))?"`)
	for _, e := range contents {
		for _, l := range []string{"en", "zh"} {
			page := get(t, d, "/docs/"+e.Slug+"?lang="+l, "")
			if page.Code != http.StatusOK {
				t.Fatalf("%s in %s: %d %s", e.Slug, l, page.Code, page.Body)
			}
			body := page.Body.String()
			if l == "zh" && !han.MatchString(body) || !strings.Contains(body, "<h1") {
				t.Errorf("%s in %s has no text of its own", e.Slug, l)
			}
			if strings.Contains(body, "@snippet") {
				t.Errorf("%s in %s shows the name of a snippet", e.Slug, l)
			}
			for _, m := range href.FindAllStringSubmatch(body, -1) {
				if strings.HasPrefix(m[1], "/problems") {
					continue // the gateway's
				}
				to := get(t, d, strings.ReplaceAll(m[1], "&amp;", "&"), "")
				if to.Code != http.StatusOK {
					t.Errorf("%s in %s links to %s: %d", e.Slug, l, m[1], to.Code)
				}
				if m[2] != "" && !strings.Contains(to.Body.String(), `id="`+m[2]+`"`) {
					t.Errorf("%s in %s links to %s#%s, and nothing has that id", e.Slug, l, m[1], m[2])
				}
			}
		}
	}
}

func TestTheLanguageIsTheReaders(t *testing.T) {
	d := newDocs(t)
	for accept, want := range map[string]string{"zh-CN,zh;q=0.9,en;q=0.8": "zh-CN", "de,en;q=0.7": "en", "": "en", "zh-TW": "zh-CN"} {
		if body := get(t, d, "/docs", accept).Body.String(); !strings.Contains(body, `<html lang="`+want+`">`) {
			t.Errorf("%q is not answered in %s", accept, want)
		}
	}
	if body := get(t, d, "/docs?lang=en", "zh").Body.String(); !strings.Contains(body, `<html lang="en">`) {
		t.Error("?lang does not win")
	}
}

func TestEventSchemasNeedNoOtherFile(t *testing.T) {
	d := newDocs(t)
	s, err := d.spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs(at(s.root, "webhooks")) {
		w := get(t, d, "/docs/events/"+p.name+".json", "")
		var schema struct {
			Title    string           `json:"title"`
			Defs     map[string]any   `json:"$defs"`
			Examples []map[string]any `json:"examples"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &schema); err != nil || schema.Title != p.name || len(schema.Examples) != 1 {
			t.Errorf("%s: %v %s", p.name, err, w.Body)
		}
		for _, r := range regexp.MustCompile(`"\$ref": "([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
			if schema.Defs[strings.TrimPrefix(r[1], "#/$defs/")] == nil {
				t.Errorf("%s points to %s, which it does not have", p.name, r[1])
			}
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	d := newDocs(t)
	for _, target := range []string{"/docs/nothing", "/docs/events/message.gone", "/docs/events/x.json", "/docs/assets/../page.html", "/docs/assets/none.css", "/docs/api.md"} {
		if w := get(t, d, target, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if w := get(t, d, "/docs/sending.md", ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "# Sending") || !strings.Contains(w.Body.String(), "hmac") {
		t.Errorf("the Markdown of a page: %d %.80s", w.Code, w.Body)
	}
	if w := get(t, d, "/llms.txt", ""); !strings.HasPrefix(w.Body.String(), "# wxrelay\n\n> ") || !strings.Contains(w.Body.String(), "/docs/sending.md") {
		t.Errorf("llms.txt: %s", w.Body)
	}
}
