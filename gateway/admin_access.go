package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/gateway/console"
)

// AdminUser is who may come in at the operators' address.
type AdminUser struct {
	Name     string // "" = any name: the password alone decides
	Password string
	Viewer   bool // may look and change nothing
}

// Change is one request that may have changed something, for the audit log.
type Change struct {
	RequestID string
	User      string // the name it came in under, "" when nobody is asked
	Client    string // its address
	Method    string
	Path      string
	Status    int // of the answer; below 400 it was done
}

// maxUserName is how much of a user name is written down.
const maxUserName = 64

// adminAccess lets in who knows a password, keeps viewers from changing anything, and writes down who changes what.
type adminAccess struct {
	o     AdminOptions
	users []adminDigest
	next  http.Handler
}

// adminDigest is a user with digests of equal length, so that comparing them takes the same time whatever is given.
type adminDigest struct {
	AdminUser
	name, password [sha256.Size]byte
}

func newAdminAccess(o AdminOptions, next http.Handler) *adminAccess {
	a := &adminAccess{o: o, next: next}
	if a.o.Guesses == nil {
		a.o.Guesses = &Guesses{}
	}
	if a.o.Guessed == nil {
		a.o.Guessed = func(string, int) {}
	}
	if a.o.Audit == nil {
		a.o.Audit = func(Change) {}
	}
	if len(a.o.TrustedProxies) == 0 {
		a.o.TrustedProxies = DefaultProxies()
	}
	for _, u := range o.Users {
		a.users = append(a.users, adminDigest{u, sha256.Sum256([]byte(u.Name)), sha256.Sum256([]byte(u.Password))})
	}
	return a
}

func (a *adminAccess) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, title, err := a.enter(r)
	if err != nil {
		refuseAdmin(w, r, title, err)
		return
	}
	r = r.WithContext(console.WithVisitor(r.Context(), console.Visitor{Name: user.Name, Viewer: user.Viewer}))
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		a.next.ServeHTTP(w, r)
		return
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		a.o.Audit(Change{RequestID: requestID(r.Header.Get(requestIDHeader)), User: user.Name[:min(len(user.Name), maxUserName)],
			Client: a.o.TrustedProxies.Client(r), Method: r.Method, Path: r.URL.Path, Status: seen.status})
	}()
	if user.Viewer {
		refuseAdmin(seen, r, "A viewer changes nothing", &fault{code: NotAllowed, detail: "this user has the role viewer; an operator can do it"})
		return
	}
	a.next.ServeHTTP(seen, r)
}

// enter says who asks. title is the refusal's own: those of the codes speak of partners and signatures.
func (a *adminAccess) enter(r *http.Request) (user AdminUser, title string, err error) {
	if len(a.users) == 0 {
		if !nearHost(r.Host) {
			return user, "Not under this host name", &fault{code: NotAllowed,
				detail: "without a password this address answers to numbers and localhost only; set admin.password to reach it by another name"}
		}
		return user, "", nil
	}
	name, password, given := r.BasicAuth()
	known := false
	wait, wrong := a.o.Guesses.try(a.o.TrustedProxies.limitKey(r), time.Now(), func() bool {
		user, known = a.find(name, password)
		return known || !given // a browser asks without a password first
	})
	switch {
	case wait > 0:
		return user, "Too many wrong passwords", &fault{code: RateLimited, detail: "too many wrong passwords from this address", after: wait}
	case known:
		return user, "", nil
	case wrong == 1 || wrong > 0 && wrong%guessesLogged == 0:
		a.o.Guessed(a.o.TrustedProxies.Client(r), wrong)
	}
	return user, "The password is missing or wrong", &fault{code: Unauthorized, scope: `Basic realm="wxrelay", charset="UTF-8"`,
		detail: "give the name and the password of one of admin.users, or admin.password with any name, by basic authentication"}
}

// find compares with every user, in the same time whoever it is.
func (a *adminAccess) find(name, password string) (user AdminUser, ok bool) {
	givenName, givenPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	for i := range a.users {
		u := &a.users[i]
		match := subtle.ConstantTimeCompare(givenPassword[:], u.password[:])
		if u.Name != "" {
			match &= subtle.ConstantTimeCompare(givenName[:], u.name[:])
		}
		if match == 1 && !ok {
			user, ok = u.AdminUser, true
		}
	}
	if ok && user.Name == "" {
		user.Name = name
	}
	return user, ok
}

// refuseAdmin answers with the error's problem under another title.
func refuseAdmin(w http.ResponseWriter, r *http.Request, title string, err error) {
	p := problemOf(err, requestID(r.Header.Get(requestIDHeader)))
	p.Title = title
	w.Header().Set(requestIDHeader, p.RequestID)
	if r.Body != http.NoBody { // nothing has read it
		leaveUnread(w)
	}
	p.write(w)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// nearHost tells whether a Host header is an address or localhost: a name an attacker's DNS answers for is neither.
func nearHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
