package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

const wxSecret = "0123456789abcdef0123456789abcdef"

// wechatWorld has a partner that may call WeChat's API; more is YAML inside the partner.
func wechatWorld(t *testing.T, rights, more string) *world {
	w := newWorld(t, wish{})
	w.stop()
	w.yaml = strings.Replace(w.yaml, "allow: [messages, subscriptions, bindings, tokens, endpoints]",
		"allow: [messages, subscriptions, bindings, tokens, endpoints"+rights+"]\n    wechat_secret: "+wxSecret+"\n    "+more, 1)
	w.start()
	return w
}

// wx calls the compatible face.
func (w *world) wx(method, target string, body []byte) (header http.Header, answer string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, method, "http://"+w.app.PublicAddr()+target, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		w.t.Fatalf("%s %s: %d %s %v", method, target, res.StatusCode, raw, err)
	}
	return res.Header, string(raw)
}

type wxToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Errcode     int    `json:"errcode"`
}

func (w *world) wxToken(force bool) wxToken {
	w.t.Helper()
	_, answer := w.wx("POST", "/cgi-bin/stable_token", fmt.Appendf(nil, `{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, w.sim.App("shop").AppID, wxSecret, force))
	var t wxToken
	if err := json.Unmarshal([]byte(answer), &t); err != nil || t.AccessToken == "" {
		w.t.Fatalf("%s %v", answer, err)
	}
	return t
}

func subscribeBody(openid, word string) []byte {
	return fmt.Appendf(nil, `{"touser":%q,"template_id":%q,"page":"pages/order?a=1&b=2","data":{"thing1":{"value":%q},"amount2":{"value":"¥18"}}}`, openid, tOrder, word)
}

// errcodeOf is the errcode of an answer; 0 when there is none.
func errcodeOf(answer string) int {
	var a struct{ Errcode int }
	_ = json.Unmarshal([]byte(answer), &a)
	return a.Errcode
}

var ridForm = regexp.MustCompile(`rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// Errors of the compatible face are WeChat's: HTTP 200, its codes, its words, a rid.
func TestCompatErrors(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", `wechat_paths: ["cgi-bin/*", "wxa/*"]`)
	appid, token := w.sim.App("shop").AppID, w.wxToken(false).AccessToken
	for _, c := range []struct {
		method, target, body string
		code                 int
	}{
		{"GET", "/cgi-bin/token", "", 41002},
		{"GET", "/cgi-bin/token?grant_type=client_credential&appid=wx9999999999999999&secret=" + wxSecret, "", 40013},
		{"GET", "/cgi-bin/token?grant_type=client_credential&appid=" + appid, "", 41004},
		{"GET", "/cgi-bin/token?grant_type=client_credential&appid=" + appid + "&secret=" + strings.Repeat("0", 32), "", 40125},
		{"GET", "/cgi-bin/token?appid=" + appid + "&secret=" + wxSecret, "", 40002},
		{"GET", "/cgi-bin/stable_token", "", 43002},
		{"POST", "/cgi-bin/stable_token", "{", 47001},
		{"GET", "/sns/jscode2session?appid=" + appid + "&secret=" + wxSecret + "&js_code=nobodys&grant_type=authorization_code", "", 40029},
		{"GET", "/sns/jscode2session?appid=" + appid + "&secret=wrong&js_code=x", "", 40125},
		{"POST", "/cgi-bin/message/subscribe/send", "{}", 41001},
		{"POST", "/cgi-bin/message/subscribe/send?access_token=x", "{}", 40001},
		{"POST", "/cgi-bin/message/subscribe/send?access_token=" + token[:len(token)-1] + "~", "{}", 40001},
		{"POST", "/cgi-bin/message/subscribe/send?access_token=" + token + "AAAA", "{}", 40001},
		{"GET", "/wxaapi/newtmpl/gettemplate?access_token=" + token, "", 48001},                    // not among wechat_paths
		{"POST", "/cgi-bin/clear_quota?access_token=" + token, `{"appid":"` + appid + `"}`, 48001}, // closed by default
		{"POST", "/cgi-bin/openapi/quota/get?access_token=" + token, `{"cgi_path":"/wxa/x"}`, 48001},
		{"GET", "/wxa/resetusersessionkey?access_token=" + token, "", 48001},
		{"GET", "/sns/oauth2/access_token?access_token=" + token, "", 48001},
		{"GET", "/cgi-bin/%2e%2e/sns/jscode2session?access_token=" + token, "", 48001},
		{"GET", "/cgi-bin/message/..%2f..%2ftoken?access_token=" + token, "", 48001},
		{"GET", "/cgi-bin//token?access_token=" + token, "", 48001},
		{"GET", "/cgi-bin/Token?access_token=" + token, "", 48001},
	} {
		header, answer := w.wx(c.method, c.target, []byte(c.body))
		var a struct {
			Errcode int
			Errmsg  string
		}
		if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Errcode != c.code || !ridForm.MatchString(a.Errmsg) {
			t.Errorf("%s %s: %s, want %d", c.method, c.target, answer, c.code)
		}
		if sns := strings.HasPrefix(c.target, "/sns/"); sns != strings.Contains(a.Errmsg, ", rid: ") || sns != strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s %s", c.target, header.Get("Content-Type"), answer)
		}
		if strings.Contains(answer, wxSecret) || strings.Contains(answer, token) {
			t.Errorf("%s shows a secret: %s", c.target, answer)
		}
	}
	if n := w.sim.Count("call:/cgi-bin/token") + w.sim.Count("call:/cgi-bin/clear_quota"); n != 0 {
		t.Errorf("%d closed calls reached WeChat", n)
	}
	// Without the right there is no token.
	w.stop()
	w.yaml = strings.Replace(strings.Replace(w.yaml, ", wechat_api]", "]", 1), `wechat_paths: ["cgi-bin/*", "wxa/*"]`, "", 1)
	w.yaml = strings.Replace(w.yaml, "wechat_secret: "+wxSecret, "", 1)
	w.start()
	if _, answer := w.wx("GET", "/wxa/x?access_token="+token, nil); errcodeOf(answer) != 40001 {
		t.Errorf("a token of a partner without wechat_secret: %s", answer)
	}
}

// One token for all who ask within its life, on whatever replica; a forced one ends it; it dies with wechat_secret.
func TestCompatTokens(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	first := w.wxToken(false)
	if first.ExpiresIn != 7200 {
		t.Errorf("it lives %d s", first.ExpiresIn)
	}
	_, classic := w.wx("GET", "/cgi-bin/token?grant_type=client_credential&appid="+w.sim.App("shop").AppID+"&secret="+wxSecret, nil)
	w.stop()
	w.start() // another process
	again := w.wxToken(false)
	if again.AccessToken != first.AccessToken || again.ExpiresIn > 7200 || again.ExpiresIn < 7000 || !strings.Contains(classic, first.AccessToken) {
		t.Errorf("%+v, then %+v, %s", first, again, classic)
	}
	works := func(token string) int {
		_, answer := w.wx("GET", "/wxaapi/newtmpl/gettemplate?access_token="+url.QueryEscape(token), nil)
		return errcodeOf(answer)
	}
	if code := works(first.AccessToken); code != 0 {
		t.Fatal(code)
	}
	forced := w.wxToken(true)
	if forced.AccessToken == first.AccessToken || works(forced.AccessToken) != 0 || works(first.AccessToken) != 40001 {
		t.Errorf("forced %v, the one before answers %d", forced, works(first.AccessToken))
	}
	if tok, err := w.client.Get(w.ctx, "apps/shop/access_token", nil); err != nil || strings.Contains(string(tok.Body), forced.AccessToken) {
		t.Errorf("ours and WeChat's are one: %s %v", tok.Body, err)
	}
	w.stop()
	w.yaml = strings.Replace(w.yaml, "wechat_secret: "+wxSecret, "wechat_secret: "+strings.Repeat("f", 32), 1)
	w.start()
	if code := works(forced.AccessToken); code != 40001 {
		t.Errorf("after another wechat_secret: %d", code)
	}
}

// With Redis away the compatible face goes on: tokens are given and work.
func TestCompatWithoutRedis(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	before := w.wxToken(false)
	get := func(token string) string {
		_, answer := w.wx("GET", "/wxaapi/newtmpl/gettemplate?access_token="+url.QueryEscape(token), nil)
		return answer
	}
	if code := errcodeOf(get(before.AccessToken)); code != 0 {
		t.Fatal(code)
	}
	w.redis.SetError("LOADING Redis is loading the dataset in memory")
	defer w.redis.SetError("")
	if answer := get(before.AccessToken); errcodeOf(answer) != 0 {
		t.Errorf("a token from before: %s", answer)
	}
	if tok := w.wxToken(false); errcodeOf(get(tok.AccessToken)) != 0 {
		t.Error("a token given without Redis does not work")
	}
}

// A program made with an SDK for WeChat, unchanged but for the address: tokens, login, a send with a token that dies in the
// middle, an upload; its sends are in the ledger, and its receipts find them.
func TestAnUnchangedSDKProgram(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	ann := w.granted("ann", 1)
	file := filepath.Join(t.TempDir(), "a.png")
	if err := os.WriteFile(file, []byte("\x89PNG\r\n\x1a\n0000"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.TokenDies, Path: "subscribe/send"})
	cmd := exec.CommandContext(w.ctx, "go", "run", "./testdata/silenceper", "http://"+w.app.PublicAddr(), w.sim.App("shop").AppID, wxSecret, w.sim.Login(w.sim.User("shop", "ann")), tOrder, file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var said map[string]string
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	if said["openid"] != ann || said["classic"] != said["stable"] || said["media_id"] == "" || !strings.Contains(said["second"], "43101") {
		t.Errorf("%v", said)
	}
	if key := said["session_key"]; len(key) != 24 || key == w.sim.SessionKey(ann) {
		t.Errorf("session_key %q", key)
	}
	inbox := w.sim.Inbox(ann)
	if len(inbox) != 1 || fmt.Sprint(inbox[0].MsgID) != said["msgid"] || inbox[0].Page != "pages/order?id=1&x=2" {
		t.Fatalf("%+v, the program heard %s", inbox, said["msgid"])
	}
	e := w.told("message.delivered", nil)
	var m partnersim.Message
	if err := e.Into(&m); err != nil || m.MsgID == nil || *m.MsgID != said["msgid"] || m.OpenID != ann || m.Attempts != 1 {
		t.Errorf("%+v %v", m, err)
	}
	w.wantLine(ann, tOrder, 0, 0, "unknown") // the second send was 43101
	a, err := w.client.Get(w.ctx, "messages", url.Values{"app": {"shop"}, "openid": {ann}})
	var list struct{ Items []partnersim.Message }
	if err != nil || a.Into(&list) != nil || len(list.Items) != 2 || list.Items[0].State != "refused" || list.Items[1].State != "delivered" {
		t.Errorf("%s %v", a.Body, err)
	}
}

// A partner allowed session_keys gets the real one.
func TestCompatSessionKey(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api, session_keys", "")
	ann := w.sim.User("shop", "ann")
	code := w.sim.Login(w.sim.User("shop", "ann"))
	target := "/sns/jscode2session?grant_type=authorization_code&appid=" + w.sim.App("shop").AppID + "&secret=" + wxSecret + "&js_code=" + url.QueryEscape(code)
	_, first := w.wx("GET", target, nil)
	_, second := w.wx("GET", target, nil)
	var s struct {
		OpenID     string
		SessionKey string `json:"session_key"`
		Errcode    *int
	}
	if err := json.Unmarshal([]byte(first), &s); err != nil || s.OpenID != ann || s.SessionKey != w.sim.SessionKey(ann) || s.Errcode != nil || first != second {
		t.Errorf("%s, again %s, %v", first, second, err)
	}
}

// Sends past the queue are booked, whatever becomes of them: by the compatible face and by the signed one.
func TestOwnSendsAreBooked(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	ways := map[string]func(openid, word string) (int, string){
		"compat": func(openid, word string) (int, string) {
			_, answer := w.wx("POST", "/cgi-bin/message/subscribe/send?access_token="+w.wxToken(false).AccessToken, subscribeBody(openid, word))
			return 200, answer
		},
		"signed": func(openid, word string) (int, string) {
			return w.wechatCall("", "POST", "cgi-bin/message/subscribe/send", subscribeBody(openid, word))
		},
	}
	for name, send := range ways {
		ann := w.granted("ann-"+name, 2)
		if status, answer := send(ann, "one"); status != 200 || errcodeOf(answer) != 0 || !strings.Contains(answer, `"msgid":`) {
			t.Fatalf("%s: %d %s", name, status, answer)
		}
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: 47003, Errmsg: "argument invalid!"})
		if _, answer := send(ann, "two"); errcodeOf(answer) != 47003 {
			t.Errorf("%s: %s", name, answer)
		}
		w.wantLine(ann, tOrder, 1, 0, "accepted") // a refused one costs nothing
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
		status, answer := send(ann, "three")
		if name == "compat" && errcodeOf(answer) != -1 || name == "signed" && status != 502 {
			t.Errorf("%s: no answer is %d %s", name, status, answer)
		}
		w.told("message.delivered", func(e partnersim.Event) bool { // by its report alone
			var m partnersim.Message
			return e.Into(&m) == nil && m.OpenID == ann && m.Errcode == nil
		})
		w.wantLine(ann, tOrder, 0, 0, "accepted")
		if _, answer := send(ann, "four"); errcodeOf(answer) != 43101 {
			t.Errorf("%s: %s", name, answer)
		}
		w.wantLine(ann, tOrder, 0, 0, "unknown")
		if n := len(w.sim.Inbox(ann)); n != 2 {
			t.Errorf("%s: received %d", name, n)
		}
	}
}

// wechatCall is a signed call of WeChat's API through the gateway.
func (w *world) wechatCall(id, method, path string, body []byte) (int, string) {
	w.t.Helper()
	if id == "" {
		id = partnersim.NewID()
	}
	target := "/v1/partners/orders/apps/shop/wechat/" + path
	payload := append([]byte(method+" "+target+"\n"), body...)
	a, err := w.client.Raw(w.ctx, id, method, target, body, payload)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Status, string(a.Body)
}

// The same signed request again gets the first answer and writes to nobody twice; after a crash in between it writes to
// nobody either.
func TestASignedCallIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	ann := w.granted("ann", 3)
	const path = "cgi-bin/message/subscribe/send"
	_, first := w.wechatCall("id-1", "POST", path, subscribeBody(ann, "one"))
	if status, again := w.wechatCall("id-1", "POST", path, subscribeBody(ann, "one")); status != 200 || again != first {
		t.Errorf("%d %s, first %s", status, again, first)
	}
	if status, _ := w.wechatCall("id-1", "POST", path, subscribeBody(ann, "another")); status != 409 {
		t.Errorf("another body under the same id: %d", status)
	}
	for _, key := range w.redis.Keys() { // the gateway died before it could remember the answer
		if strings.HasPrefix(key, "wx:{in:") {
			w.redis.Del(key)
		}
	}
	if status, answer := w.wechatCall("id-1", "POST", path, subscribeBody(ann, "one")); status != 502 {
		t.Errorf("%d %s", status, answer)
	}
	if n := len(w.sim.Inbox(ann)); n != 1 {
		t.Errorf("received %d", n)
	}
	w.wantLine(ann, tOrder, 2, 0, "accepted")
	if status, answer := w.wechatCall("", "GET", "wxaapi/newtmpl/gettemplate?x=1", nil); status != 200 || !strings.Contains(answer, tOrder) {
		t.Errorf("%d %s", status, answer)
	}
	for path, want := range map[string]int{"cgi-bin/token": 403, "cgi-bin/clear_quota": 403, "sns/jscode2session": 403, "cgi-bin/../cgi-bin/token": 403, "cgi-bin/%2e%2e/x": 403} {
		if status, answer := w.wechatCall("", "POST", path, nil); status != want {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
}

// Where two partners call an app's API, none spends the other's day.
func TestADayIsShared(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	w.stop()
	w.sim.SetApp("shop", func(a *wechatsim.App) {
		a.Limits = map[string]wechatsim.Limit{"/wxaapi/newtmpl/getcategory": {PerDay: 10}}
	})
	w.yaml = strings.Replace(w.yaml, "partners:\n", "partners:\n  - {id: stock, secrets: [whsec_c3RvY2tzdG9ja3N0b2Nrc3RvY2tzdG9jaw==], apps: [shop], allow: [wechat_api]}\n", 1)
	w.start()
	call := func() int {
		status, _ := w.wechatCall("", "GET", "wxaapi/newtmpl/getcategory", nil)
		return status
	}
	call() // has the limit read
	if err := w.until(func() bool { return w.sim.Count("call:/cgi-bin/openapi/quota/get") > 0 }); err != nil {
		t.Fatal("the limit was not asked for")
	}
	limit := time.After(30 * time.Second)
	refused := 0
	for n := 0; n < 9 && refused == 0; n++ {
		select {
		case <-limit:
			t.Fatal("too slow")
		default:
		}
		if status := call(); status == 429 {
			refused = n
		} else if status != 200 {
			t.Fatal(status)
		}
	}
	if refused == 0 || w.sim.Count("call:/wxaapi/newtmpl/getcategory") > 6 {
		t.Errorf("%d of 10 calls of a day went to one of two partners", w.sim.Count("call:/wxaapi/newtmpl/getcategory"))
	}
}

// 200 MB come through the gateway in constant memory, with WeChat's status and headers; one that is cut short is cut here.
func TestALargeDownloadStreams(t *testing.T) {
	w := wechatWorld(t, ", wechat_api", "")
	const size = 200 << 20
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = 0xff
	}
	w.stop()
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
		most := size / len(chunk)
		switch r.URL.Path {
		case "/wxa/cut":
			most /= 4
		case "/wxa/download":
		default:
			w.sim.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "image/jpeg")
		rw.Header().Set("Content-Length", fmt.Sprint(size))
		rw.WriteHeader(http.StatusNonAuthoritativeInfo)
		for range most {
			_, _ = rw.Write(chunk)
		}
	})
	w.start()
	token := w.wxToken(false).AccessToken
	get := func(path string) (*http.Response, int64, error) {
		req, err := http.NewRequestWithContext(w.ctx, "GET", "http://"+w.app.PublicAddr()+path+"?access_token="+token, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, res.Body)
		return res, n, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, n, err := get("/wxa/download")
	runtime.ReadMemStats(&after)
	if err != nil || n != size || res.StatusCode != http.StatusNonAuthoritativeInfo || res.Header.Get("Content-Type") != "image/jpeg" || res.ContentLength != size {
		t.Fatalf("%d bytes, %d %v %v", n, res.StatusCode, res.Header, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes allocated for %d", grown, size)
	}
	if _, n, err := get("/wxa/cut"); err == nil || n >= size {
		t.Errorf("a cut answer looks whole: %d bytes", n)
	}
}

// An upload goes with its boundary and bytes, through the signed face and the compatible one, and again when its token dies.
func TestUploadsPassUntouched(t *testing.T) {
	t.Parallel()
	w := wechatWorld(t, ", wechat_api", "")
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	part, err := m.CreateFormFile("media", "a.png")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 1<<20)...))
	_ = m.Close()
	token := w.wxToken(false).AccessToken
	for _, mood := range []wechatsim.Mood{"", wechatsim.TokenDies} {
		if mood != "" {
			w.sim.Force(wechatsim.Forced{Mood: mood, Path: "media/upload"})
		}
		req, err := http.NewRequestWithContext(w.ctx, "POST", "http://"+w.app.PublicAddr()+"/cgi-bin/media/upload?type=image&access_token="+token, bytes.NewReader(form.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", m.FormDataContentType())
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.Contains(string(body), `"media_id"`) {
			t.Fatalf("%q: %s %v", mood, body, err)
		}
	}
	if _, answer := w.wx("POST", "/cgi-bin/media/upload?type=image&access_token="+token, make([]byte, 12<<20+1)); errcodeOf(answer) != 45002 {
		t.Errorf("past limits.proxy_body: %s", answer)
	}
}

// SDKs of another language, unchanged but for the address; scripts/sdk.sh installs them.
func TestNodeSDKs(t *testing.T) {
	dir := os.Getenv("WXRELAY_NODE_SDKS")
	if dir == "" {
		t.Skip("WXRELAY_NODE_SDKS is not set: run scripts/sdk.sh")
	}
	for _, program := range []string{"co.js", "easy.js"} {
		t.Run(program, func(t *testing.T) {
			w := wechatWorld(t, ", wechat_api", "")
			ann := w.granted("ann", 1)
			file := filepath.Join(t.TempDir(), "a.png")
			if err := os.WriteFile(file, []byte("\x89PNG\r\n\x1a\n0000"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.TokenDies, Path: "subscribe/send"})
			cmd := exec.CommandContext(w.ctx, "node", program, "http://"+w.app.PublicAddr(), w.sim.App("shop").AppID, wxSecret, w.sim.Login(w.sim.User("shop", "ann")), tOrder, file)
			cmd.Dir = dir
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			var said map[string]string
			if err := json.Unmarshal(out, &said); err != nil {
				t.Fatal(err)
			}
			inbox := w.sim.Inbox(ann)
			if said["openid"] != ann || said["media_id"] == "" || len(inbox) != 1 || fmt.Sprint(inbox[0].MsgID) != said["msgid"] || !strings.Contains(said["second"], "43101") {
				t.Errorf("%v\n%s", said, stderr.String())
			}
			w.told("message.delivered", nil)
			w.wantLine(ann, tOrder, 0, 0, "unknown")
		})
	}
}
