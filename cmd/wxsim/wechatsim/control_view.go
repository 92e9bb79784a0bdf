package wechatsim

import (
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"
)

// view of GET /api/<name>.
func (s *Sim) view(r *http.Request) (any, error) {
	q := r.URL.Query()
	switch r.PathValue("view") {
	case "state":
		return s.state(), nil
	case "actions":
		names := make([]string, 0, len(actions))
		for name := range actions {
			names = append(names, name)
		}
		sort.Strings(names)
		return names, nil
	case "inbox":
		openid, err := s.openid(command{OpenID: q.Get("openid"), App: q.Get("app"), User: q.Get("user")})
		if err != nil {
			return nil, err
		}
		return s.Inbox(openid), nil
	case "pushes":
		return s.Pushes(), nil
	case "sends":
		return s.Sends(), nil
	case "calls":
		return s.Calls(), nil
	case "counts":
		return s.Counts(), nil
	}
	return nil, fmt.Errorf("%w view: %q", errNoSuch, r.PathValue("view"))
}

type weatherState struct {
	Era    Era      `json:"era"`
	Moods  Moods    `json:"moods"`
	Forced []Forced `json:"forced"`
}

func (s *Sim) weather() weatherState {
	return weatherState{Era: Era(s.era.Load()), Moods: s.Moods(), Forced: s.Forced()}
}

type appState struct {
	Name      string          `json:"name"`
	AppID     string          `json:"appid"`
	Kind      Kind            `json:"kind"`
	Mode      Mode            `json:"mode"`
	Format    Format          `json:"format"`
	Shape     Shape           `json:"shape"`
	Callback  string          `json:"callback_url"`
	Silenced  bool            `json:"silenced"`
	Templates []templateState `json:"templates"`
	Users     []userState     `json:"users"`
}

type templateState struct {
	ID    string       `json:"id"`
	Title string       `json:"title"`
	Type  TemplateType `json:"type"`
	Popup bool         `json:"popup"` // requestSubscribeMessage knows it
}

type userState struct {
	Name    string         `json:"name"`
	OpenID  string         `json:"openid"`
	Credits map[string]int `json:"credits"` // by template id; -1 = open
	Inbox   []Message      `json:"inbox"`
}

const (
	usersShown = 50
	linesShown = 20
)

// state is everything the page shows, cut to what a person can read.
func (s *Sim) state() any {
	var apps []appState
	for _, a := range s.world.all() {
		conf := a.conf()
		st := appState{Name: conf.Name, AppID: conf.AppID, Kind: conf.Kind, Mode: conf.Mode, Format: conf.Format, Shape: conf.Shape,
			Callback: conf.CallbackURL, Silenced: a.mark.silent(s.memory()), Users: []userState{}}
		for _, t := range conf.Templates {
			st.Templates = append(st.Templates, templateState{t.ID, t.Title, t.Type, !t.Legacy && !t.OfOA})
		}
		for i, acc := range s.world.everybody(a) {
			if i == usersShown {
				break
			}
			u := userState{Name: acc.person, OpenID: acc.openid, Credits: map[string]int{}, Inbox: last(s.Inbox(acc.openid), linesShown)}
			for _, t := range conf.Templates {
				if n := s.Credits(acc.openid, t.ID); n != 0 {
					u.Credits[t.ID] = n
				}
			}
			st.Users = append(st.Users, u)
		}
		apps = append(apps, st)
	}
	var moods []string
	for _, m := range callMoods {
		moods = append(moods, string(m))
	}
	for m := range ofPush {
		moods = append(moods, string(m))
	}
	sort.Strings(moods)
	return map[string]any{"seed": s.o.Seed, "now": s.now(), "aged": time.Duration(s.aged.Load()).String(), "weather": s.weather(),
		"moods": moods, "apps": apps, "pushes": last(s.Pushes(), linesShown), "calls": last(s.Calls(), linesShown), "counts": s.Counts(),
		"help": strings.TrimSpace(controlHelp)}
}

const controlHelp = `POST /api/<action> with one JSON object; GET /api/actions lists the actions, GET /api/state shows everything.`

func last[T any](all []T, n int) []T {
	if len(all) > n {
		all = all[len(all)-n:]
	}
	if all == nil {
		all = []T{}
	}
	return all
}
