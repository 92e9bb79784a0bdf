package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// outside is every status with its codes, as callers rely on them.
var outside = map[int][]Code{
	400: {"malformed"},
	401: {"unauthorized", "session_invalid", "code_invalid"},
	403: {"not_allowed", "user_blocked"},
	404: {"not_found"},
	405: {MethodNotAllowed},
	409: {"no_credit", "id_reused", "in_progress", "too_late", "already_bound", "no_session", "managed_by_config"},
	410: {"ticket_expired", "channel_retired"},
	413: {"too_large"},
	422: {"invalid_message", "invalid_request"},
	429: {"rate_limited"},
	500: {"internal"}, // decision 5
	502: {"wechat_error", "wechat_config"},
	503: {"unavailable"},
}

func TestCodesOfEveryStatus(t *testing.T) {
	got := map[int][]Code{}
	for _, e := range table {
		got[e.Status] = append(got[e.Status], e.Code)
		for name, text := range map[string]string{"title": e.Title, "title zh": e.TitleZH, "detail": e.Detail, "cure": e.Cure, "cure zh": e.CureZH} {
			if text == "" {
				t.Errorf("%s has no %s", e.Code, name)
			}
		}
		if !regexp.MustCompile(`\p{Han}`).MatchString(e.TitleZH + e.CureZH) {
			t.Errorf("%s is not told in Chinese", e.Code)
		}
	}
	if diff := cmp.Diff(outside, got); diff != "" {
		t.Error(diff)
	}
	if !slices.IsSortedFunc(table, func(a, b Entry) int { return a.Status - b.Status }) {
		t.Error("not in the order of their status")
	}
}

type redisError struct{}

func (redisError) Error() string { return "CLUSTERDOWN secret-host:6379" }
func (redisError) RedisError()   {}

func TestEveryErrorBecomesItsProblem(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("doing something: %w", err) }
	api := func(code int) error {
		return wrap(&wechat.APIError{Code: code, Msg: "their words", RID: "65f1-0a2b"})
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errors.New("refused"))}
	for name, c := range map[string]struct {
		err   error
		code  Code
		after time.Duration
		told  bool // to the operator
		words bool // of WeChat
	}{
		"not found":               {relay.ErrNotFound, NotFound, 0, false, false},
		"not allowed":             {relay.ErrNotAllowed, NotAllowed, 0, false, false},
		"no credit":               {relay.ErrNoCredit, NoCredit, 0, false, false},
		"too late":                {relay.ErrTooLate, TooLate, 0, false, false},
		"channel retired":         {relay.ErrChannelRetired, ChannelRetired, 0, false, false},
		"session":                 {relay.ErrSessionInvalid, SessionInvalid, 0, false, false},
		"code":                    {errors.Join(relay.ErrCodeInvalid, api(40029)), CodeInvalid, 0, false, true},
		"code used":               {errors.Join(relay.ErrCodeInvalid, api(40163)), CodeInvalid, 0, false, true},
		"blocked":                 {errors.Join(relay.ErrUserBlocked, api(40226)), UserBlocked, 0, false, true},
		"ticket":                  {relay.ErrTicketExpired, TicketExpired, 0, false, false},
		"bound":                   {relay.ErrAlreadyBound, AlreadyBound, 0, false, false},
		"malformed":               {&relay.Malformed{Detail: "x"}, Malformed, 0, false, false},
		"too large":               {&relay.TooLarge{Detail: "x"}, TooLarge, 0, false, false},
		"message":                 {&relay.Invalid{Code: "invalid_message"}, InvalidMessage, 0, false, false},
		"request":                 {&relay.Invalid{Code: "invalid_request"}, InvalidRequest, 0, false, false},
		"reused":                  {webhook.ErrReused, IDReused, 0, false, false},
		"in progress":             {&webhook.InProgressError{RetryAfter: 3 * time.Second}, InProgress, 3 * time.Second, false, false},
		"inbox away":              {webhook.ErrUnavailable, Unavailable, unavailableFor, true, false},
		"binding session":         {binding.ErrSession, SessionInvalid, 0, false, false},
		"binding ticket":          {binding.ErrTicket, TicketExpired, 0, false, false},
		"binding bound":           {binding.ErrBound, AlreadyBound, 0, false, false},
		"binding none":            {binding.ErrNotFound, NotFound, 0, false, false},
		"binding busy":            {binding.ErrBusy, InProgress, time.Second, false, false},
		"binding away":            {binding.ErrUnavailable, Unavailable, unavailableFor, true, false},
		"job gone":                {queue.ErrNotFound, NotFound, 0, false, false},
		"job id":                  {queue.ErrID, NotFound, 0, false, false},
		"job in hand":             {queue.ErrInHand, TooLate, 0, false, false},
		"queue away":              {queue.ErrUnavailable, Unavailable, unavailableFor, true, false},
		"time is up":              {context.DeadlineExceeded, Unavailable, unavailableFor, true, false},
		"redis cut":               {io.EOF, Unavailable, unavailableFor, true, false},
		"redis refused":           {refused, Unavailable, unavailableFor, true, false},
		"redis says no":           {redisError{}, Unavailable, unavailableFor, true, false},
		"wechat appid":            {api(40013), WeChatConfig, 0, false, true},
		"wechat secret":           {api(40125), WeChatConfig, 0, false, true},
		"wechat ip":               {api(40164), WeChatConfig, 0, false, true},
		"wechat token":            {api(40001), WeChatConfig, 0, false, true},
		"wechat busy":             {api(-1), WeChatError, 0, false, true},
		"wechat day":              {api(45009), RateLimited, time.Hour, false, true},
		"wechat minute":           {api(45011), RateLimited, time.Minute, false, true},
		"wechat template retired": {api(45103), ChannelRetired, 0, false, true},
		"wechat uniform retired":  {api(45109), ChannelRetired, 0, false, true},
		"wechat unheard of":       {api(99999), WeChatError, 0, false, true},
		"wechat silent":           {fmt.Errorf("%w: %w", wechat.ErrNoAnswer, context.DeadlineExceeded), WeChatError, 0, true, false},
		"wechat out of reach":     {fmt.Errorf("%w: %w", wechat.ErrNotLeft, refused), WeChatError, 0, true, false},
		"wechat app":              {wechat.ErrUnknownApp, NotFound, 0, false, false},
		"wechat body":             {wechat.ErrBody, InvalidRequest, 0, false, false},
		"nobody knows":            {errors.New("dial postgres://u:hunter2@db"), Internal, 0, true, false},
		"a panic":                 {panicked("secret-value"), Internal, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := problemOf(wrap(c.err), "req_1")
			if p.Code != c.code || !slices.Contains(outside[p.Status], p.Code) || p.after != c.after || (p.cause != nil) != c.told || (p.Errcode != nil) != c.words {
				t.Fatalf("%+v", p)
			}
			w := httptest.NewRecorder()
			p.write(w)
			if ct := w.Header().Get("Content-Type"); w.Code != p.Status || ct != "application/problem+json" {
				t.Errorf("%d %s", w.Code, ct)
			}
			if after := w.Header().Get("Retry-After"); (after != "") != (c.after > 0) {
				t.Errorf("Retry-After %q", after)
			}
			var body map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			for _, k := range []string{"type", "title", "status", "code", "detail", "request_id"} {
				if body[k] == nil || body[k] == "" {
					t.Errorf("no %s in %s", k, w.Body)
				}
			}
			if body["type"] != "/problems/"+string(c.code) || body["request_id"] != "req_1" {
				t.Errorf("%s", w.Body)
			}
			if c.words && (body["errmsg"] != "their words" || body["rid"] != "65f1-0a2b") {
				t.Errorf("WeChat's words are missing: %s", w.Body)
			}
			for _, secret := range []string{"hunter2", "secret-", "goroutine"} {
				if strings.Contains(w.Body.String(), secret) {
					t.Errorf("the outside reads %q", secret)
				}
			}
		})
	}
}

func TestRetryAfterIsWholeSecondsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "3600"} {
		p, w := problem(RateLimited, ""), httptest.NewRecorder()
		p.after = d
		p.write(w)
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%s became %q", d, got)
		}
	}
}

func TestProblemPages(t *testing.T) {
	g := Public(Options{Version: "1.2.3"})
	for _, e := range table {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", "/problems/"+string(e.Code), nil))
		body := w.Body.String()
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Fatalf("%s: %d", e.Code, w.Code)
		}
		if strings.Contains(body, "`") {
			t.Errorf("the page of %s shows a backquote", e.Code)
		}
		for _, want := range []string{string(e.Code), e.TitleZH, `<section lang="en">`, `<section lang="zh-CN">`, "wxrelay 1.2.3"} {
			if !strings.Contains(body, want) {
				t.Errorf("the page of %s lacks %q", e.Code, want)
			}
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/problems", nil))
	for code := range maps.Keys(entries) {
		if !strings.Contains(w.Body.String(), `href="/problems/`+string(code)+`"`) {
			t.Errorf("the list lacks %s", code)
		}
	}
	w = httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/problems/nonsense", nil))
	if w.Code != 404 {
		t.Errorf("an unknown code is %d", w.Code)
	}
}
