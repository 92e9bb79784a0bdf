package wechatsim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestForcedMoods: what the caller learns, and what really happened.
func TestForcedMoods(t *testing.T) {
	for _, c := range []struct {
		mood     Mood
		errcode  int
		answered bool
		accepted bool
	}{
		{Busy, -1, true, false},
		{BusyAccepted, -1, true, true},
		{Timeout, 0, false, true},
		{TimeoutBefore, 0, false, false},
		{Cut, 0, false, true},
		{CutBefore, 0, false, false},
		{TokenDies, 40001, true, false},
		{TokenStuck, 40001, true, false},
		{TokenStorm, 40001, true, false},
		{Concurrent, 43108, true, false},
		{DailyQuota, 45009, true, false},
		{MinuteQuota, 45011, true, false},
		{Refuse, 48001, true, false},
		{Slow, 0, true, true},
	} {
		t.Run(string(c.mood), func(t *testing.T) {
			r := newRig(t, Options{Hang: time.Millisecond})
			ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
			r.Grant(ann, tmpl, 2)
			tok := r.token()
			r.Force(Forced{Mood: c.mood, Path: "subscribe/send", Errcode: 48001, Errmsg: "api unauthorized", Delay: time.Millisecond})
			got := r.do("POST", "/cgi-bin/message/subscribe/send?access_token="+tok, r.order(ann))
			if (got.lost == nil) != c.answered || got.Errcode != c.errcode {
				t.Errorf("answered %v (%v), errcode %d", got.lost == nil, got.lost, got.Errcode)
			}
			if got := len(r.Inbox(ann)) == 1; got != c.accepted {
				t.Errorf("accepted %v", got)
			}
			sends := r.Sends()
			if len(sends) != 1 || sends[0].Mood != c.mood || sends[0].Answered != c.answered || sends[0].OpenID != ann {
				t.Errorf("%+v", sends)
			}
			if !c.accepted || c.mood == BusyAccepted {
				want(t, "the next one", r.send(r.order(ann)), map[bool]int{true: 40001}[c.mood == TokenStuck])
			}
		})
	}
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	r.Grant(ann, r.app.Templates[0].ID, 2)
	tok := r.token()
	r.Force(Forced{Mood: BadGateway})
	if got := r.do("POST", "/cgi-bin/message/subscribe/send?access_token="+tok, r.order(ann)); got.status != http.StatusBadGateway ||
		got.ctype != "text/html" || len(r.Inbox(ann)) != 1 {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

func TestForcedTimesAndTargets(t *testing.T) {
	r := newRig(t, Options{})
	ann, bob := r.User(r.app.Name, "ann"), r.User(r.app.Name, "bob")
	lift := r.Force(Forced{Mood: Refuse, Errcode: 48001, Path: "custom/send", OpenID: ann, Times: -1})
	r.Say(ann, "x")
	r.Say(bob, "x")
	for range 3 {
		want(t, "ann", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), 48001)
		want(t, "bob", r.call("/cgi-bin/message/custom/send", text(bob, "hi")), 0)
	}
	lift()
	want(t, "lifted", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), 0)
	r.Force(Forced{Mood: Busy, App: "nobody"})
	want(t, "another app's", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), 0)
	r.Force(Forced{Mood: Busy, Times: 2, Path: "custom/send"})
	for range 2 {
		want(t, "twice", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), -1)
	}
	want(t, "and no more", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), 0)
	r.Force(Forced{Mood: Busy, Times: -1})
	r.Calm()
	want(t, "calm", r.call("/cgi-bin/message/custom/send", text(ann, "hi")), 0)
}

// TestOneSeedOneHistory: a bad day can be had again.
func TestOneSeedOneHistory(t *testing.T) {
	history := func(seed uint64) (all []string) {
		s := New(Options{Seed: seed, Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
		defer s.Close()
		fast := Unhelpful()
		delete(fast, Slow)
		s.SetMoods(fast)
		app := s.Apps()[0]
		ann := s.User(app.Name, "ann")
		for i := range 200 {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", fmt.Sprintf("/sns/jscode2session?appid=%s&secret=%s&grant_type=authorization_code&js_code=%s", app.AppID, app.Secret, s.Login(ann)), nil)
			s.ServeHTTP(w, r)
			all = append(all, fmt.Sprint(i, w.Body.String()))
		}
		return all
	}
	first := history(7)
	if !reflect.DeepEqual(first, history(7)) {
		t.Error("one seed, two histories")
	}
	if reflect.DeepEqual(first, history(8)) {
		t.Error("two seeds, one history")
	}
	busy := 0
	for _, line := range first {
		if strings.Contains(line, `"errcode":-1`) {
			busy++
		}
	}
	if busy < 2 || busy > 25 {
		t.Errorf("%d of 200 calls busy, about 5 %% expected", busy)
	}
}

func TestUnhelpfulByDefault(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	if !reflect.DeepEqual(s.Moods(), Unhelpful()) {
		t.Errorf("%v", s.Moods())
	}
	s.Calm()
	if len(s.Moods()) != 0 {
		t.Errorf("%v", s.Moods())
	}
}
