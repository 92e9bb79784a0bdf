package console

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

func TestEveryTemplateIsProofread(t *testing.T) {
	if err := checkTemplates(); err != nil {
		t.Fatal(err)
	}
	if len(templates) != len(samples()) || len(samples()) != len(blanks()) {
		t.Errorf("%d templates, %d samples, %d blanks", len(templates), len(samples()), len(blanks()))
	}
	bad := template.Must(template.New("frame").Parse(`{{define "frame"}}{{.Nonsense}}{{end}}`))
	good := templates["trouble"]
	templates["trouble"] = bad
	defer func() { templates["trouble"] = good }()
	if err := checkTemplates(); err == nil {
		t.Error("a template that names a field its page does not have passed")
	}
}

func TestWordsAreWholeInBothLanguages(t *testing.T) {
	han := regexp.MustCompile(`\p{Han}`)
	same := map[string]bool{"Code": true, "Name": true, "Other": true, "OtherName": true, "AppID": true, "Token": true, "OpenID": true, "ID": true, "Errcode": true,
		"Errmsg": true, "RID": true, "MsgID": true, "Metadata": true, "URL": true, "Number": true}
	en, zh := reflect.ValueOf(English), reflect.ValueOf(Chinese)
	for i := range en.NumField() {
		name := en.Type().Field(i).Name
		e, z := en.Field(i).String(), zh.Field(i).String()
		if e == "" || z == "" {
			t.Errorf("%s is empty: %q %q", name, e, z)
		}
		if !same[name] && (han.MatchString(e) || !han.MatchString(z)) {
			t.Errorf("%s is in the wrong language: %q %q", name, e, z)
		}
	}
}

func TestEveryWordIsUsed(t *testing.T) {
	all := ""
	entries, err := files.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := files.ReadFile("pages/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
	inCode := "Code Name Other OtherName Now Ago In Healthy Benched Disabled Probing "
	for i := range reflect.TypeFor[Words]().NumField() {
		name := reflect.TypeFor[Words]().Field(i).Name
		if !regexp.MustCompile(`Words\.`+name+`\b`).MatchString(all) && !strings.Contains(inCode, name+" ") {
			t.Errorf("nobody says %s", name)
		}
	}
}

func draw(t *testing.T, p page, w *Words) string {
	t.Helper()
	f := p.frame()
	f.Words, f.Now, f.Path, f.Token, f.Version = w, sampleTime, "/"+p.template(), "TOKEN", "1.2.3"
	f.Here = &url.URL{Path: f.Path}
	b, err := render(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What each page must show, as an operator looks for it.
func TestPages(t *testing.T) {
	by := map[string]page{}
	for _, p := range samples() {
		by[p.template()] = p
	}
	for name, c := range map[string]struct{ en, zh []string }{
		"overview": {[]string{`<span class="tag big bad" id="ready">Not ready</span>`, `<meta http-equiv="refresh" content="5">`, `<strong>redis</strong>`, `has not turned for 40 s`,
			`<strong>shop</strong></td><td class="code">wx0123456789abcdef`, `orders, crm`, `20 min ago</td><td>in 1 h 40 min`, `none held by this process`,
			`send:shop:subscribe</td><td class="n">120</td><td class="n">12</td><td class="n">3</td><td class="n">0</td><td class="n">0</td><td class="n">400 ms`,
			`<td class="n hot">2</td>`, `href="/messages/msg_07sample1"`, `<span class="tag bad">refused</span>`},
			[]string{`<html lang="zh-CN">`, `未就绪`, `20 min前`, `1 h 40 min后`}},
		"user": {[]string{`id="line-tmpl-shipped"`, `<span class="tag good">accepted</span>`, `<dd class="figure">2 <small class="soft">1 unproven</small></dd>`, `<td class="n">&#43;1</td><td class="n">2</td>`, `popup_accept`,
			`<option selected>shop</option>`, `value="oAnn0000000000000000000000"`}, []string{`可用次数`, `1 未经证实`, `明细`}},
		"messages":   {[]string{`href="/users?app=shop&amp;openid=oAnn0000000000000000000000"`, `<option selected>refused</option>`, `msg_07sample2`}, []string{`查询消息`}},
		"message":    {[]string{`id="state">refused</span>`, `1988810812324364291`, `<strong class="code">43101</strong>`, `the user has not subscribed`, `What to do: ask the user again`, `{&#34;order&#34;:&#34;A-1001&#34;}`}, []string{`用户未订阅`, `处理办法: 请再次征得用户同意`}},
		"deliveries": {[]string{`<form method="post" action="/deliveries/dlv_07sample/replay"><input type="hidden" name="token" value="TOKEN">`, `exhausted`, `answered 500`, `120 ms`, `role="status"`, `cursor=c2`}, []string{`重放`}},
		"endpoints":  {[]string{`<span class="tag warn">benched</span>`, `https://orders.example.com/hook`, `message.*, subscription.*`, `<td class="n">11</td>`, `in 30 s`}, []string{`暂停`}},
		"errcodes":   {[]string{`id="c43101"`, `ask again`}, []string{`再次询问`}},
		"trouble":    {[]string{`it is already on its way`}, []string{`暂时无法读取`}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, side := range []struct {
				words *Words
				want  []string
			}{{&English, c.en}, {&Chinese, c.zh}} {
				got := draw(t, by[name], side.words)
				for _, want := range append(side.want, `<a class="brand" href="/">`, "wxrelay 1.2.3", `lang=`+side.words.Other) {
					if !strings.Contains(got, want) {
						t.Errorf("%s: no %q in\n%s", side.words.Code, want, got)
					}
				}
				if strings.Contains(got, "<script") || strings.Contains(got, " style=") || strings.Contains(got, "<no value>") || strings.Contains(got, "%!") {
					t.Errorf("a script, an inline style or a missing value in\n%s", got)
				}
			}
			if strings.Contains(draw(t, by[name], &English), "<nil>") {
				t.Error("a nil shows")
			}
		})
	}
}

// Whatever partners, WeChat or attackers put into a text stays text.
func TestTextsStayTexts(t *testing.T) {
	evil := `"><script>alert(1)</script>`
	m := relay.Message{ID: evil, App: evil, OpenID: evil, State: evil, Channel: evil, Errmsg: &evil, User: &evil, TemplateID: &evil, Timeline: []relay.Step{{State: evil, Cause: evil}},
		Metadata: []byte(`{"x":"</pre><script>"}`)}
	for _, p := range []page{
		&Message{Message: m}, &Messages{Items: []relay.Message{m}, App: evil}, &User{Asked: true, OpenID: evil, Lines: []relay.Subscription{{TemplateID: evil, Status: evil, History: []relay.Movement{{Cause: evil}}}}},
		&Overview{Checks: []Check{{Name: evil, Detail: evil}}, Apps: []AppRow{{Name: evil}}, Lanes: []Lane{{Name: evil}}},
		&Deliveries{Endpoint: evil, Items: []relay.Delivery{{ID: evil, Type: evil, State: "buried", Reason: &evil}}},
		&Endpoints{Items: []EndpointRow{{Partner: evil, URL: "javascript:alert(1)", Events: []string{evil}}}}, &Trouble{Reason: evil},
	} {
		if got := draw(t, p, &English); strings.Contains(got, "<script") || strings.Contains(got, `href="javascript`) {
			t.Errorf("%s lets it through:\n%s", p.template(), got)
		}
	}
}

func TestSince(t *testing.T) {
	f := &Frame{Words: &English, Now: sampleTime}
	for d, want := range map[time.Duration]string{0: "now", -500 * time.Millisecond: "now", -5 * time.Second: "5 s ago", 90 * time.Second: "in 1 min", -3 * time.Hour: "3 h 0 min ago", -72 * time.Hour: "3 d ago"} {
		if got := f.Since(sampleTime.Add(d)); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	if f.Since(time.Time{}) != "–" || f.Clock(time.Time{}) != "–" {
		t.Error("no time is not a time")
	}
}

func TestLanguage(t *testing.T) {
	for name, c := range map[string]struct {
		target, cookie, accept string
		want                   *Words
		kept                   bool
	}{
		"nothing said":        {"/", "", "", &English, false},
		"browser":             {"/", "", "zh-CN,zh;q=0.9,en;q=0.8", &Chinese, false},
		"browser, second":     {"/", "", "en-GB,zh;q=0.9", &English, false},
		"kept":                {"/", "zh", "en", &Chinese, false},
		"asked":               {"/?lang=en", "zh", "zh", &English, true},
		"asked for something": {"/?lang=fr", "", "zh", &Chinese, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := httptest.NewRequest("GET", c.target, nil), httptest.NewRecorder()
			r.Header.Set("Accept-Language", c.accept)
			if c.cookie != "" {
				r.AddCookie(&http.Cookie{Name: langCookie, Value: c.cookie})
			}
			if got := language(w, r); got != c.want {
				t.Errorf("speaks %s", got.Name)
			}
			if kept := w.Header().Get("Set-Cookie") != ""; kept != c.kept {
				t.Errorf("kept: %v", kept)
			}
		})
	}
}
