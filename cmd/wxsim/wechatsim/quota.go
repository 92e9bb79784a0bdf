package wechatsim

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota

func quotaRoutes() []route {
	return []route{
		{path: "/cgi-bin/clear_quota", method: http.MethodPost, token: true, serve: (*call).clearQuota},
		{path: "/cgi-bin/clear_quota/v2", method: http.MethodPost, serve: (*call).clearQuotaBySecret},
		{path: "/cgi-bin/openapi/quota/get", method: http.MethodPost, token: true, serve: (*call).getQuota},
		{path: "/cgi-bin/openapi/quota/clear", method: http.MethodPost, token: true, serve: (*call).clearPath},
		{path: "/cgi-bin/openapi/rid/get", method: http.MethodPost, token: true, serve: (*call).getRID},
	}
}

// Limit of one API path. 0 = none.
type Limit struct {
	PerDay    int // 45009 past it, until midnight in China
	PerMinute int // 45011 past it, until the next minute
}

// defaultLimits as documented or widely reported; App.Limits goes before.
var defaultLimits = map[string]Limit{
	"/cgi-bin/token":                        {PerDay: 2_000},
	"/cgi-bin/stable_token":                 {PerDay: 500_000, PerMinute: 10_000},
	"/cgi-bin/message/subscribe/send":       {PerDay: 10_000_000},
	"/cgi-bin/message/wxopen/template/send": {PerDay: 1_000_000},
	"/cgi-bin/message/template/send":        {PerDay: 100_000},
}

// quota is what an app used today and this minute, by path.
type quota struct {
	mu     sync.Mutex
	day    int64
	used   map[string]int
	minute map[string]*perMinute
	month  int64
	clears int
	single int
}

var china = time.FixedZone("CST", 8*3600)

func limitOf(conf *App, path string) Limit {
	if l, ok := conf.Limits[path]; ok {
		return l
	}
	return defaultLimits[path]
}

// spend books one call of a path.
func (q *quota) spend(conf *App, path string, now time.Time) answer {
	l := limitOf(conf, path)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(now)
	if l.PerMinute > 0 {
		m := q.minute[path]
		if m == nil {
			m = &perMinute{}
			q.minute[path] = m
		}
		if !m.allow(now, l.PerMinute) {
			return fail(45011, "api minute-quota reach limit, must slower, retry next minute")
		}
	}
	if l.PerDay > 0 && q.used[path] >= l.PerDay {
		return fail(45009, "reach max api daily quota limit")
	}
	q.used[path]++
	return answer{}
}

var ridForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// turn forgets yesterday and last month.
func (q *quota) turn(now time.Time) {
	local := now.In(china)
	if day := (now.Unix() + 8*3600) / 86400; q.used == nil || day != q.day {
		q.day, q.used = day, map[string]int{}
		if q.minute == nil {
			q.minute = map[string]*perMinute{}
		}
	}
	if month := int64(local.Year())*12 + int64(local.Month()); month != q.month {
		q.month, q.clears, q.single = month, 0, 0
	}
}

const (
	clearsPerMonth = 10
	singlePerMonth = 50
)

func (c *call) clearQuota() answer {
	var q struct {
		AppID string `json:"appid"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	if q.AppID != c.app.conf().AppID {
		return fail(40013, "invalid appid")
	}
	return c.app.quota.clear(c.memory())
}

// clearQuotaBySecret takes its parameters in the query or in the body: the document shows both.
func (c *call) clearQuotaBySecret() answer {
	appid, secret := c.q.Get("appid"), c.q.Get("appsecret")
	if appid == "" {
		var q struct {
			AppID  string `json:"appid"`
			Secret string `json:"appsecret"`
		}
		if bad := c.read(&q); bad.errcode != 0 {
			return bad
		}
		appid, secret = q.AppID, q.Secret
	}
	if bad := c.credentials(appid, secret); bad.errcode != 0 {
		return bad
	}
	return c.app.quota.clear(c.memory())
}

func (q *quota) clear(now time.Time) answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(now)
	if q.clears >= clearsPerMonth {
		return fail(48006, "forbid to clear quota because of reaching the limit")
	}
	q.clears++
	q.used = map[string]int{}
	return fine
}

type pathQuery struct {
	Path string `json:"cgi_path"`
}

func (c *call) clearPath() answer {
	var p pathQuery
	if bad := c.read(&p); bad.errcode != 0 {
		return bad
	}
	q := &c.app.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(c.memory())
	switch {
	case !strings.HasPrefix(p.Path, "/"):
		return fail(76021, "cgi_path not found")
	case q.single >= singlePerMonth:
		return fail(48006, "forbid to clear quota because of reaching the limit")
	}
	q.single++
	delete(q.used, p.Path)
	return fine
}

func (c *call) getQuota() answer {
	var p pathQuery
	if bad := c.read(&p); bad.errcode != 0 {
		return bad
	}
	if strings.HasPrefix(p.Path, "/sns/") {
		return fail(76022, "could not use this cgi_path, no permission")
	}
	if c.routes[http.MethodPost+" "+p.Path] == nil && c.routes[http.MethodGet+" "+p.Path] == nil {
		return fail(76021, "cgi_path not found, please check")
	}
	conf, q := c.app.conf(), &c.app.quota
	l := limitOf(conf, p.Path)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(c.memory())
	type daily struct {
		Limit  int `json:"daily_limit"`
		Used   int `json:"used"`
		Remain int `json:"remain"`
	}
	type rate struct {
		Count  int `json:"call_count"`
		Second int `json:"refresh_second"`
	}
	body := struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		Quota   daily  `json:"quota"`
		Rate    *rate  `json:"rate_limit,omitempty"`
	}{0, "ok", daily{l.PerDay, q.used[p.Path], max(0, l.PerDay-q.used[p.Path])}, nil}
	if l.PerMinute > 0 {
		body.Rate = &rate{l.PerMinute, 60}
	}
	return answer{body: body}
}

// getRID tells what a call was. Calls of sns cannot be asked for.
func (c *call) getRID() answer {
	var q struct {
		RID string `json:"rid"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	if !ridForm.MatchString(q.RID) {
		return fail(76002, "invalid rid")
	}
	c.seen.mu.Lock()
	recent := c.seen.recent.all()
	c.seen.mu.Unlock()
	for _, d := range recent {
		if d.RID != q.RID {
			continue
		}
		if d.App != c.app.conf().AppID {
			return fail(76003, "rid not belong to this account")
		}
		type request struct {
			InvokeTime int64  `json:"invoke_time"`
			Cost       int64  `json:"cost_in_ms"`
			URL        string `json:"request_url"`
			Body       string `json:"request_body"`
			Answer     string `json:"response_body"`
			Client     string `json:"client_ip"`
		}
		said := answer{errcode: d.Errcode, errmsg: d.Errmsg}
		if d.Errcode == 0 {
			said = fine
		}
		return answer{body: struct {
			Errcode int     `json:"errcode"`
			Errmsg  string  `json:"errmsg"`
			Request request `json:"request"`
		}{0, "ok", request{d.At.Unix(), d.Took.Milliseconds(), d.Path, d.body, string(said.encode()), d.client}}}
	}
	return fail(76001, "rid not found")
}
