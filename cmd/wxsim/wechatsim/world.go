package wechatsim

import (
	"encoding/base64"
	"fmt"
	"hash/maphash"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// world is who exists: apps, and the account every person has in each of them.
type world struct {
	seed   uint64
	mu     sync.RWMutex
	apps   []*app
	handle map[string]*app // by Name, AppID and OriginalID
	shards [64]shard
	hash   maphash.Seed
	age    atomic.Int64 // how often everybody was forgotten
}

func (w *world) forget() {
	w.age.Add(1)
	for i := range w.shards {
		sh := &w.shards[i]
		sh.mu.Lock()
		sh.accounts = map[string]*account{}
		sh.mu.Unlock()
	}
}

type shard struct {
	mu       sync.RWMutex
	accounts map[string]*account
}

// app is one App at work. Its settings are replaced whole, so that reading them takes no lock.
type app struct {
	settings atomic.Pointer[App]
	edit     sync.Mutex // serialises SetApp and template changes
	keys     tokenKeys
	quota    quota
	slots    chan struct{} // pushes in flight
	mark     markFail
	media    mediaShelf
	once     onceWindow // client_msg_id
}

func (a *app) conf() *App { return a.settings.Load() }

func (a *app) template(id string) *Template {
	c := a.conf()
	for i := range c.Templates {
		if c.Templates[i].ID == id {
			return &c.Templates[i]
		}
	}
	return nil
}

// account is one person in one app: what WeChat knows about an openid. mu guards everything below it.
type account struct {
	app     *app
	openid  string
	person  string
	unionid string
	sending atomic.Int32 // sends in flight, for 43108

	mu         sync.Mutex
	sessionKey string
	keyFrom    time.Time // when a login last set sessionKey
	logins     perMinute
	risky      bool
	mainOff    bool
	lines      map[string]*line // by template id
	kept       map[string]string
	remaining  int       // customer service messages still allowed
	until      time.Time // and until when
	agentUntil time.Time // handed over to a person: messages bypass the callback
	lastSeen   time.Time // last interaction, for typing
	typing     time.Time
	forms      map[string]*form
	follows    bool
	blocked    bool
	gone       bool // closed the account: every send is 40003
	inbox      []Message
	received   int64
	lastStamp  int64         // CreateTime of the last push about this account; it never goes back
	stamped    []uint64      // hashes of the bodies that carried it: no two are alike
	lastPush   chan struct{} // closed when the previous push had its first delivery
}

// line is the consent of one account for one template.
type line struct {
	credits int
	open    bool // long-term and accepted
	closed  bool // rejected in settings: what is left does not count
	sentAt  map[string]time.Time
}

// form is a legacy credential: a form_id or a prepay_id.
type form struct {
	uses    int
	from    time.Time // before it WeChat says 41028
	expires time.Time
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, handle: map[string]*app{}, hash: maphash.MakeSeed()}
	for i := range w.shards {
		w.shards[i].accounts = map[string]*account{}
	}
	return w
}

func (w *world) addApp(conf App) *app {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range []string{conf.Name, conf.AppID, conf.OriginalID} {
		if w.handle[h] != nil && h != "" {
			panic(fmt.Sprintf("wechatsim: two apps answer to %q", h))
		}
	}
	a := &app{slots: make(chan struct{}, 256)}
	a.settings.Store(&conf)
	w.apps = append(w.apps, a)
	for _, h := range []string{conf.Name, conf.AppID, conf.OriginalID} {
		w.handle[h] = a
	}
	return a
}

func (w *world) app(handle string) *app {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.handle[handle]
}

func (w *world) all() []*app {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return append([]*app(nil), w.apps...)
}

func (w *world) shard(openid string) *shard {
	return &w.shards[maphash.String(w.hash, openid)%uint64(len(w.shards))]
}

func (w *world) account(openid string) *account {
	sh := w.shard(openid)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.accounts[openid]
}

// openids are 28 characters beginning with o; unionids the same with a u.
func (w *world) openid(a *app, person string) string {
	if n := w.age.Load(); n > 0 {
		person = fmt.Sprintf("%s\x00%d", person, n)
	}
	h := derive(w.seed, "openid", a.conf().AppID, person)
	return "o" + base64.RawURLEncoding.EncodeToString(h[:])[:27]
}

func (w *world) unionid(platform, person string) string {
	if platform == "" {
		return ""
	}
	h := derive(w.seed, "unionid", platform, person)
	return "u" + base64.RawURLEncoding.EncodeToString(h[:])[:27]
}

// enter gives the person's account in the app, opening it at the first visit.
func (w *world) enter(a *app, person string) *account {
	openid := w.openid(a, person)
	sh := w.shard(openid)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if acc := sh.accounts[openid]; acc != nil {
		return acc
	}
	key := derive(w.seed, "session", openid, 0)
	acc := &account{app: a, openid: openid, person: person, unionid: w.unionid(a.conf().Platform, person),
		sessionKey: base64.StdEncoding.EncodeToString(key[:16]), follows: true}
	sh.accounts[openid] = acc
	return acc
}

func (w *world) everybody(a *app) []*account {
	var all []*account
	for i := range w.shards {
		sh := &w.shards[i]
		sh.mu.RLock()
		for _, acc := range sh.accounts {
			if acc.app == a {
				all = append(all, acc)
			}
		}
		sh.mu.RUnlock()
	}
	sort.Slice(all, func(i, j int) bool { return all[i].person < all[j].person })
	return all
}

// line of the account for a template; the caller holds mu.
func (acc *account) line(template string) *line {
	if acc.lines == nil {
		acc.lines = map[string]*line{}
	}
	l := acc.lines[template]
	if l == nil {
		l = &line{}
		acc.lines[template] = l
	}
	return l
}

// App returns the settings of an app, found by name, appid or original id. It panics for one that does not exist.
func (s *Sim) App(handle string) App { return *s.mustApp(handle).conf() }

// Apps returns the settings of every app.
func (s *Sim) Apps() []App {
	var all []App
	for _, a := range s.world.all() {
		all = append(all, *a.conf())
	}
	return all
}

// SetApp changes the settings of an app at once, as the admin pages do. change must not touch Name, AppID or OriginalID.
func (s *Sim) SetApp(handle string, change func(*App)) {
	a := s.mustApp(handle)
	a.edit.Lock()
	defer a.edit.Unlock()
	next := *a.conf()
	next.Templates = append([]Template(nil), next.Templates...)
	change(&next)
	next = next.filled(s.o.Seed, 0)
	a.settings.Store(&next)
}

// User returns the openid of a person in an app; the person visits it for the first time when needed. The same person
// has the same unionid in all apps of one open platform account.
func (s *Sim) User(app, person string) string { return s.world.enter(s.mustApp(app), person).openid }

// Users returns the openids of an app by the name of the person.
func (s *Sim) Users(app string) map[string]string {
	all := map[string]string{}
	for _, acc := range s.world.everybody(s.mustApp(app)) {
		all[acc.person] = acc.openid
	}
	return all
}

// UnionID of an openid; "" when its app belongs to no open platform account.
func (s *Sim) UnionID(openid string) string { return s.mustAccount(openid).unionid }

// SessionKey that is valid for an openid now.
func (s *Sim) SessionKey(openid string) string {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	return acc.sessionKey
}

func (s *Sim) mustApp(handle string) *app {
	if a := s.world.app(handle); a != nil {
		return a
	}
	panic("wechatsim: no app " + handle)
}

func (s *Sim) mustAccount(openid string) *account {
	if acc := s.world.account(openid); acc != nil {
		return acc
	}
	panic("wechatsim: nobody has the openid " + openid)
}
