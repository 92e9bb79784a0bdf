package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// refuse adds a fault unless the value was already faulted by an earlier stage: one mistake, one line.
func (f *filling) refuse(path, format string, a ...any) {
	for _, known := range f.faults[:f.settled] {
		p := strings.TrimSuffix(known.Path, "_file")
		if p == path || below(path, p) || below(p, path) {
			return
		}
	}
	f.fault(path, format, a...)
}

func below(path, parent string) bool {
	return len(path) > len(parent) && path[:len(parent)] == parent && (path[len(parent)] == '.' || path[len(parent)] == '[')
}

// The outer bounds of what may be configured.
const (
	maxShards     = 64
	maxBody       = 1 << 20 // one push or request becomes one queued job
	maxProxyBody  = 64 << 20
	maxBatch      = 10000
	maxTimeout    = 30 * time.Second
	minLease      = 3 * time.Second // renewed every sixth of it: a busy machine must not lose it
	maxLease      = 10 * time.Minute
	maxRetention  = 366 * 24 * time.Hour
	maxUnproven   = 255 // one byte of a line counts them
	maxAESKeyLen  = 43
	masterKeySize = 32
	minPassword   = 12
	maxInFlight   = 100
	maxHeaders    = 20
	maxFilter     = 1000
)

func (c *Config) validate(f *filling) {
	f.settled = len(f.faults)
	f.listenAddr("listen", c.Listen)
	f.listenAddr("admin.listen", c.Admin.Listen)
	if c.Listen == c.Admin.Listen && !strings.HasSuffix(c.Listen, ":0") {
		f.refuse("admin.listen", "the same as listen; the admin door needs its own address")
	}
	c.validateAdmin(f)
	f.between("shutdown_grace", c.ShutdownGrace, 0, time.Hour)
	f.redisURL("redis.url", c.Redis.URL.Reveal())
	if c.Redis.Shards < 1 || c.Redis.Shards > maxShards {
		f.refuse("redis.shards", "%d, wants 1 to %d", c.Redis.Shards, maxShards)
	}
	f.httpURL("wechat.base_url", c.WeChat.BaseURL, true)
	if c.WeChat.FallbackURL != "" {
		f.httpURL("wechat.fallback_url", c.WeChat.FallbackURL, true)
		if c.WeChat.FallbackURL == c.WeChat.BaseURL {
			f.refuse("wechat.fallback_url", "the same as base_url")
		}
	}
	f.between("wechat.timeout", c.WeChat.Timeout, 100*time.Millisecond, maxTimeout)
	f.masterKey("master_key", c.MasterKey)
	for i, k := range c.MasterKeyPrevious {
		f.masterKey(fmt.Sprintf("master_key_previous[%d]", i), k)
	}
	if len(c.MasterKeyPrevious) > 0 && c.MasterKey.IsZero() {
		f.refuse("master_key", "required beside master_key_previous")
	}
	c.validateApps(f)
	c.validatePartners(f)
	f.between("retention.messages", c.Retention.Messages, time.Minute, maxRetention)
	f.between("retention.events", c.Retention.Events, time.Minute, maxRetention)
	f.between("retention.buried", c.Retention.Buried, time.Minute, maxRetention)
	if c.Retention.MaxBytes != 0 { // nothing counts the bytes of what has ended yet
		f.refuse("retention.max_bytes", "%s, but a limit by bytes is not kept by this version: set 0, and shorten retention.events", c.Retention.MaxBytes)
	}
	f.size("limits.body", c.Limits.Body, maxBody)
	f.size("limits.proxy_body", c.Limits.ProxyBody, maxProxyBody)
	f.count("limits.batch", c.Limits.Batch, 1, maxBatch)
	f.rate("limits.mp_per_ip", c.Limits.MPPerIP)
	f.rate("limits.mp_per_openid", c.Limits.MPPerOpenID)
	f.between("messages.unknown_deadline", c.Messages.UnknownDeadline, time.Second, 7*24*time.Hour)
	f.count("messages.held_per_user", c.Messages.HeldPerUser, 1, 10000)
	if c.Messages.UnknownDeadline > c.Retention.Messages && c.Retention.Messages >= time.Minute {
		f.refuse("messages.unknown_deadline", "%s, longer than a message is kept (retention.messages %s)",
			formatDuration(c.Messages.UnknownDeadline), formatDuration(c.Retention.Messages))
	}
	f.between("queue.lease", c.Queue.Lease, minLease, maxLease)
	if c.Queue.Lease < c.WeChat.Timeout && c.Queue.Lease >= minLease && c.WeChat.Timeout <= maxTimeout {
		f.refuse("queue.lease", "%s, shorter than a call to WeChat may take (wechat.timeout %s)",
			formatDuration(c.Queue.Lease), formatDuration(c.WeChat.Timeout))
	}
	f.subscriptions("subscriptions", c.Subscriptions)
	f.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.oneOf("log.format", c.Log.Format, "json", "console")
	if c.Tracing.Endpoint != "" {
		f.httpURL("tracing.endpoint", c.Tracing.Endpoint, true)
	}
	if !(c.Tracing.Sample >= 0 && c.Tracing.Sample <= 1) {
		f.refuse("tracing.sample", "%v, wants 0 to 1", c.Tracing.Sample)
	}
}

// validateAdmin wants a password, and a long one, for a door that others can reach.
func (c *Config) validateAdmin(f *filling) {
	open := !Loopback(c.Admin.Listen)
	if open && c.Admin.Password.IsZero() && len(c.Admin.Users) == 0 {
		f.refuse("admin.password", "required, because admin.listen %q is not a loopback address", c.Admin.Listen)
	}
	strong := func(path string, s Secret) {
		if n := utf8.RuneCountInString(s.Reveal()); open && n > 0 && n < minPassword {
			f.refuse(path, "%s, at least %d, because admin.listen %q is not a loopback address", characters(s.Reveal()), minPassword, c.Admin.Listen)
		}
	}
	strong("admin.password", c.Admin.Password)
	seen := ids{}
	for i, u := range c.Admin.Users {
		p := fmt.Sprintf("admin.users[%d]", i)
		f.named(seen, p+".name", u.Name)
		if u.Password.IsZero() {
			f.refuse(p+".password", "required (or password_file)")
		}
		strong(p+".password", u.Password)
		f.oneOf(p+".role", u.Role, "operator", "viewer")
	}
}

func (f *filling) subscriptions(p string, s Subscriptions) {
	f.oneOf(p+".trust", s.Trust, "event", "client", "both")
	f.between(p+".pairing_window", s.PairingWindow, 0, time.Hour)
	f.oneOf(p+".popup_reject", s.PopupReject, "keep", "clear")
	f.count(p+".unproven_max", s.UnprovenMax, 0, maxUnproven)
}

func (f *filling) between(path string, d, low, high time.Duration) {
	switch {
	case d < 0:
		f.refuse(path, "%s is negative", formatDuration(d))
	case d < low:
		f.refuse(path, "%s, at least %s", formatDuration(d), formatDuration(low))
	case d > high:
		f.refuse(path, "%s, at most %s", formatDuration(d), formatDuration(high))
	}
}

func (f *filling) count(path string, n, low, high int) {
	if n < low || n > high {
		f.refuse(path, "%d, wants %d to %d", n, low, high)
	}
}

func (f *filling) size(path string, n, high Size) {
	if n < 1024 || n > high {
		f.refuse(path, "%s, wants 1KiB to %s", n, high)
	}
}

func (f *filling) rate(path string, r Rate) {
	if !(r.PerSecond > 0 && r.PerSecond <= 1e6) {
		f.refuse(path+".per_second", "%v, wants more than 0, at most 1000000", r.PerSecond)
	}
	f.count(path+".burst", r.Burst, 1, 1e6)
}

func (f *filling) oneOf(path, value string, known ...string) {
	if slices.Contains(known, value) {
		return
	}
	if n := nearest(value, known); n != "" {
		f.refuse(path, "%q is unknown, did you mean %q?", value, n)
		return
	}
	f.refuse(path, "%q is unknown, wants one of %s", value, strings.Join(known, ", "))
}

func (f *filling) listenAddr(path, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		f.refuse(path, "%q is not host:port", addr)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		f.refuse(path, "%q has no port between 0 and 65535", addr)
	} else if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostName.MatchString(host) {
		f.refuse(path, "%q has no valid host before port %d", addr, n)
	}
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// Loopback reports whether only this machine can reach addr (host:port).
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// httpURL checks what we call: absolute, http or https, no credentials, no fragment.
func (f *filling) httpURL(path, raw string, bare bool) {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > 2048:
		f.refuse(path, "%s, at most 2048", characters(raw))
	case err != nil || u.Host == "" || u.Hostname() == "":
		f.refuse(path, "not an absolute URL such as https://example.com/hook")
	case u.Scheme != "https" && u.Scheme != "http":
		f.refuse(path, "scheme %q, wants https or http", u.Scheme)
	case u.User != nil:
		f.refuse(path, "carries a user or password, which would end up in logs elsewhere")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		f.refuse(path, "carries a #fragment, which is never sent")
	case bare && (u.RawQuery != "" || u.ForceQuery):
		f.refuse(path, "carries a query")
	}
}

func characters(s string) string {
	if len(s) == 1 {
		return "1 character"
	}
	return strconv.Itoa(len(s)) + " characters"
}

var redisSchemes = []string{"redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "embedded"}

// redisURL checks the form only; nothing of it is quoted but the scheme.
func (f *filling) redisURL(path, raw string) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !slices.Contains(redisSchemes, scheme) {
		f.refuse(path, "wants one of %s://", strings.Join(redisSchemes, "://, "))
		return
	}
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") {
		f.refuse(path, "an @ stands behind a ?; special characters of a password are written as %%XX")
		return
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if !strings.Contains(rest[:at], ":") {
			f.refuse(path, "no colon before the @: a password alone is written %[1]s://:password@host, a user and password %[1]s://user:password@host", scheme)
		}
		rest = rest[at+1:]
	}
	hosts, name, _ := strings.Cut(rest, "/")
	switch scheme {
	case "embedded":
		if rest != "" {
			f.refuse(path, "embedded:// takes nothing behind it")
		}
		return
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			f.refuse(path, "unix:// wants an absolute path to the socket")
		}
		return
	case "redis+sentinel":
		if name == "" {
			f.refuse(path, "redis+sentinel:// wants the master's name: redis+sentinel://host1,host2/master")
		}
	case "redis+cluster":
		if name != "" && name != "0" {
			f.refuse(path, "a Redis Cluster has only database 0")
		}
	default:
		if n, err := strconv.ParseUint(name, 10, 16); name != "" && (err != nil || n > 1<<14) {
			f.refuse(path, "the database behind the / is not a number")
		}
	}
	list := strings.Split(hosts, ",")
	if len(list) > 1 && (scheme == "redis" || scheme == "rediss") {
		f.refuse(path, "several hosts: wants redis+cluster:// or redis+sentinel://")
		return
	}
	for _, h := range list {
		if h == "" || strings.ContainsAny(h, " \t") {
			f.refuse(path, "a host is missing")
			return
		}
	}
	if _, err := url.Parse(raw); err != nil && len(list) == 1 {
		f.refuse(path, "not a URL; special characters of a password are written as %%XX")
	}
}

func (f *filling) masterKey(path string, k Secret) {
	if k.IsZero() {
		return
	}
	if _, err := DecodeMasterKey(k); err != nil {
		f.refuse(path, "%v", err)
	}
}

// DecodeMasterKey gives the 32 bytes of a master key.
func DecodeMasterKey(k Secret) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(k.Reveal())
	if err != nil {
		return nil, fmt.Errorf("not base64, wants 32 bytes in base64 as wxrelay keygen prints them")
	}
	if len(raw) != masterKeySize {
		return nil, fmt.Errorf("%d bytes in base64, wants %d", len(raw), masterKeySize)
	}
	return raw, nil
}
