package wechatsim

import (
	"bytes"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The control handler is no part of WeChat: it is where a person (one HTML page) or another program (JSON) makes users do
// things, changes the weather and looks at what happened. POST /api/<action> takes one flat object, see command; GET
// /api/<view> shows. Errors are {"error":"..."} with 400 or 404.

//go:embed control.html
var controlPage []byte

// command is what an action may be given. A user is named by openid, or by name and app.
type command struct {
	App      string             `json:"app"`
	User     string             `json:"user"`
	OpenID   string             `json:"openid"`
	Template string             `json:"template"` // id, title, or T1, T2 ... by position
	Choice   string             `json:"choice"`
	Choices  map[string]string  `json:"choices"`
	Text     string             `json:"text"`
	Event    string             `json:"event"`
	On       bool               `json:"on"`
	N        int                `json:"n"`
	Seconds  float64            `json:"seconds"`
	Era      int                `json:"era"`
	Moods    map[string]float64 `json:"moods"`
	Forced
	DelayMS     int     `json:"delay_ms"`
	CallbackURL *string `json:"callback_url"`
	Mode        Mode    `json:"mode"`
	Format      Format  `json:"format"`
	Shape       Shape   `json:"shape"`
}

// UnmarshalJSON keeps App and OpenID, which Forced names as well, in both places.
func (c *command) UnmarshalJSON(b []byte) error {
	type plain command
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode((*plain)(c)); err != nil {
		return err
	}
	c.Forced.App, c.Forced.OpenID = c.App, c.OpenID
	c.Delay = time.Duration(c.DelayMS) * time.Millisecond
	return nil
}

var errNoSuch = errors.New("no such")

// actions of POST /api/<name>.
var actions = map[string]func(*Sim, *http.Request, command) (any, error){
	"user": newcomer(func(s *Sim, openid string, _ command) any { return map[string]string{"openid": openid} }),
	"tap": func(s *Sim, _ *http.Request, c command) (any, error) {
		openid, err := s.openid(c)
		if err != nil {
			return nil, err
		}
		a := s.world.account(openid).app
		if c.Template != "" || len(c.Choices) == 0 {
			c.Choices = map[string]string{c.Template: c.Choice}
		}
		choices := map[string]string{}
		for t, choice := range c.Choices {
			id, err := a.templateID(t)
			if err == nil {
				err = oneOf("choice", strings.TrimSuffix(choice, AlwaysKeep), "accept", "acceptWithAudio", "acceptWithAlert", "reject", "ban", "filter")
			}
			if err != nil {
				return nil, err
			}
			choices[id] = choice
		}
		return s.Tap(openid, a.conf().AppID, choices), nil
	},
	"setting": aboutTemplate(func(s *Sim, openid, template string, c command) (any, error) {
		if err := oneOf("choice", c.Choice, "accept", "reject"); err != nil {
			return nil, err
		}
		s.ChangeSetting(openid, template, c.Choice)
		return s.Settings(openid), nil
	}),
	"settings":    person(func(s *Sim, openid string, _ command) any { return s.Settings(openid) }),
	"main_switch": person(func(s *Sim, openid string, c command) any { s.MainSwitch(openid, c.On); return s.Settings(openid) }),
	"grant": aboutTemplate(func(s *Sim, openid, template string, c command) (any, error) {
		s.Grant(openid, template, max(1, c.N))
		return map[string]int{"credits": s.Credits(openid, template)}, nil
	}),
	"reset":      weather(func(s *Sim, _ command) { s.Reset() }),
	"login":      newcomer(func(s *Sim, openid string, _ command) any { return map[string]string{"code": s.Login(openid)} }),
	"phone_code": person(func(s *Sim, openid string, _ command) any { return map[string]string{"code": s.PhoneCode(openid)} }),
	"say":        person(func(s *Sim, openid string, c command) any { return map[string]string{"msgid": s.Say(openid, c.Text)} }),
	"enter":      person(func(s *Sim, openid string, c command) any { s.EnterSession(openid, c.Text); return fine.body }),
	"form":       person(func(s *Sim, openid string, _ command) any { return map[string]string{"form_id": s.SubmitForm(openid)} }),
	"pay":        person(func(s *Sim, openid string, _ command) any { return map[string]string{"prepay_id": s.Pay(openid)} }),
	"revoke":     person(func(s *Sim, openid string, c command) any { s.Revoke(openid, c.Event); return fine.body }),
	"follow":     person(func(s *Sim, openid string, c command) any { s.Follow(openid, c.On); return fine.body }),
	"block":      person(func(s *Sim, openid string, c command) any { s.Block(openid, c.On); return fine.body }),
	"risky":      person(func(s *Sim, openid string, c command) any { s.Risky(openid, c.On); return fine.body }),
	"event":      person(func(s *Sim, openid string, c command) any { s.PushEvent(openid, c.Event); return fine.body }),
	"calm":       weather(func(s *Sim, _ command) { s.Calm() }),
	"unhelpful":  weather(func(s *Sim, _ command) { s.SetMoods(Unhelpful()) }),
	"moods": func(s *Sim, _ *http.Request, c command) (any, error) {
		m := Moods{}
		for k, v := range c.Moods {
			if !known(Mood(k)) {
				return nil, fmt.Errorf("%w mood: %q", errNoSuch, k)
			}
			if v < 0 || v > 1 {
				return nil, fmt.Errorf("mood %s: %v, wants 0 to 1", k, v)
			}
			m[Mood(k)] = v
		}
		s.SetMoods(m)
		return s.weather(), nil
	},
	"force": func(s *Sim, _ *http.Request, c command) (any, error) {
		if !known(c.Mood) {
			return nil, fmt.Errorf("%w mood: %q", errNoSuch, c.Mood)
		}
		s.Force(c.Forced)
		return s.weather(), nil
	},
	"advance": weather(func(s *Sim, c command) { s.Advance(time.Duration(c.Seconds * float64(time.Second))) }),
	"era":     weather(func(s *Sim, c command) { s.SetEra(Era(c.Era)) }),
	"kill_token": func(s *Sim, _ *http.Request, c command) (any, error) {
		if s.world.app(c.App) == nil {
			return nil, fmt.Errorf("%w app: %q", errNoSuch, c.App)
		}
		s.KillToken(c.App, c.On)
		return fine.body, nil
	},
	"app": func(s *Sim, _ *http.Request, c command) (any, error) {
		if s.world.app(c.App) == nil {
			return nil, fmt.Errorf("%w app: %q", errNoSuch, c.App)
		}
		for _, err := range []error{oneOf("mode", c.Mode, "", Plain, Compat, Secure), oneOf("format", c.Format, "", JSON, XML),
			oneOf("shape", c.Shape, "", Captured, Documented, Wrapped, Pretty, AnyShape)} {
			if err != nil {
				return nil, err
			}
		}
		s.SetApp(c.App, func(a *App) {
			if c.CallbackURL != nil {
				a.CallbackURL = *c.CallbackURL
			}
			for _, set := range []struct{ to, from *string }{{(*string)(&a.Mode), (*string)(&c.Mode)},
				{(*string)(&a.Format), (*string)(&c.Format)}, {(*string)(&a.Shape), (*string)(&c.Shape)}} {
				if *set.from != "" {
					*set.to = *set.from
				}
			}
		})
		return fine.body, nil
	},
	"verify": func(s *Sim, r *http.Request, c command) (any, error) {
		if s.world.app(c.App) == nil {
			return nil, fmt.Errorf("%w app: %q", errNoSuch, c.App)
		}
		if err := s.VerifyCallback(r.Context(), c.App); err != nil {
			return nil, err
		}
		return fine.body, nil
	},
}

func oneOf[T ~string](name string, given T, known ...T) error {
	if slices.Contains(known, given) {
		return nil
	}
	return fmt.Errorf("%w %s: %q, wants one of %q", errNoSuch, name, given, known)
}

func aboutTemplate(do func(*Sim, string, string, command) (any, error)) func(*Sim, *http.Request, command) (any, error) {
	return func(s *Sim, _ *http.Request, c command) (any, error) {
		openid, err := s.openid(c)
		if err != nil {
			return nil, err
		}
		template, err := s.world.account(openid).app.templateID(c.Template)
		if err != nil {
			return nil, err
		}
		return do(s, openid, template, c)
	}
}

// newcomer acts for a user who may be here for the first time.
func newcomer(do func(*Sim, string, command) any) func(*Sim, *http.Request, command) (any, error) {
	known := person(do)
	return func(s *Sim, r *http.Request, c command) (any, error) {
		if a, err := s.appOf(c); err == nil && c.User != "" && c.OpenID == "" {
			s.world.enter(a, c.User)
		}
		return known(s, r, c)
	}
}

func person(do func(*Sim, string, command) any) func(*Sim, *http.Request, command) (any, error) {
	return func(s *Sim, _ *http.Request, c command) (any, error) {
		openid, err := s.openid(c)
		if err != nil {
			return nil, err
		}
		return do(s, openid, c), nil
	}
}

func weather(do func(*Sim, command)) func(*Sim, *http.Request, command) (any, error) {
	return func(s *Sim, _ *http.Request, c command) (any, error) {
		do(s, c)
		return s.weather(), nil
	}
}

func known(m Mood) bool {
	for _, k := range callMoods {
		if k == m {
			return true
		}
	}
	return ofPush[m] || m == Refuse
}

// appOf is the app a command names; the first one when it names none.
func (s *Sim) appOf(c command) (*app, error) {
	if c.App == "" {
		return s.world.all()[0], nil
	}
	if a := s.world.app(c.App); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%w app: %q", errNoSuch, c.App)
}

// openid of the user a command names. Only the actions user and login make new ones.
func (s *Sim) openid(c command) (string, error) {
	if c.OpenID != "" {
		if s.world.account(c.OpenID) == nil {
			return "", fmt.Errorf("%w openid: %q", errNoSuch, c.OpenID)
		}
		return c.OpenID, nil
	}
	a, err := s.appOf(c)
	if err != nil {
		return "", err
	}
	if c.User == "" {
		return "", errors.New("name a user, or an openid")
	}
	openid := s.world.openid(a, c.User)
	if s.world.account(openid) == nil {
		return "", fmt.Errorf("%w user: %q; POST /api/user makes one", errNoSuch, c.User)
	}
	return openid, nil
}

// templateID takes an id, a title, or T1, T2 ... by position.
func (a *app) templateID(handle string) (string, error) {
	for i, t := range a.conf().Templates {
		if handle == t.ID || handle == t.Title || handle == fmt.Sprintf("T%d", i+1) {
			return t.ID, nil
		}
	}
	return "", fmt.Errorf("%w template: %q", errNoSuch, handle)
}

// Control is the control handler.
func (s *Sim) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
		_, _ = w.Write(controlPage) // the reader went away
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, fine.body, nil) })
	mux.HandleFunc("GET /api/{view}", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.view(r)
		say(w, v, err)
	})
	mux.HandleFunc("POST /api/{action}", func(w http.ResponseWriter, r *http.Request) {
		do := actions[r.PathValue("action")]
		if do == nil {
			say(w, nil, fmt.Errorf("%w action: %q", errNoSuch, r.PathValue("action")))
			return
		}
		var c command
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, &c)
		}
		if err != nil {
			say(w, nil, err)
			return
		}
		v, err := do(s, r, c)
		say(w, v, err)
	})
	return mux
}

func say(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errNoSuch) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the reader went away
}
