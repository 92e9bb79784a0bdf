package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// maxURL is the longest address of an endpoint, in bytes.
const maxURL = 2048

// alsoDenied is what the guard's list (IANA's special purpose registries) lets through and is not public all the same:
// Azure's host node. https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
var alsoDenied = netip.MustParsePrefix("168.63.129.16/32")

// errBlocked is what a refused dial fails with. It names no address: whoever chose the name would learn how it resolves here.
var errBlocked = errors.New("address is not public")

// resolveTime bounds the look-up of a name that is checked ahead.
const resolveTime = 2 * time.Second

// guard decides which addresses may be dialled. It sees the address after name resolution, on every dial.
type guard struct {
	public  *ssrf.Guardian
	private atomic.Pointer[[]netip.Prefix] // allowed although not public, plain http too
	names   *net.Resolver                  // nil = the system's
}

func newGuard(private []netip.Prefix) *guard {
	g := &guard{public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(alsoDenied))}
	g.allow(private)
	return g
}

func (g *guard) allow(private []netip.Prefix) {
	own := append([]netip.Prefix(nil), private...)
	g.private.Store(&own)
}

func (g *guard) isPrivate(a netip.Addr) bool {
	for _, p := range *g.private.Load() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// check says whether to connect to an address. Public ones only over TLS, at 443 or an unprivileged port: receivers of
// webhooks do not listen where mail and shells do.
func (g *guard) check(at netip.AddrPort, plain bool) error {
	a := at.Addr().Unmap().WithZone("")
	if g.isPrivate(a) {
		return nil
	}
	if plain {
		return fmt.Errorf("%w: plain http", errBlocked)
	}
	if at.Port() != 443 && at.Port() < 1024 {
		return fmt.Errorf("%w: port %d", errBlocked, at.Port())
	}
	if g.public.SafeAddr(a) != nil {
		return errBlocked
	}
	return nil
}

// control is a net.Dialer's ControlContext: called with the address about to be connected to, after it was resolved.
func (g *guard) control(plain bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return errBlocked
		}
		return g.check(at, plain)
	}
}

// address reads an endpoint's URL, refusing what can be refused without asking the DNS. ErrURL.
func (g *guard) address(raw string) (*url.URL, error) {
	refuse := func(why string) (*url.URL, error) { return nil, fmt.Errorf("%w: %s", ErrURL, why) }
	if len(raw) > maxURL {
		return refuse("longer than 2048 characters")
	}
	if strings.ContainsAny(raw, " \\") {
		return refuse("a space or a backslash in it")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return refuse("not a URL") // err quotes it, and its query may hold a secret
	}
	port := uint16(443)
	switch u.Scheme {
	case "https":
	case "http":
		port = 80
	default:
		return refuse("must be https")
	}
	if u.User != nil {
		return refuse("must not carry a user name or password")
	}
	if strings.Contains(raw, "#") {
		return refuse("must not carry a fragment")
	}
	host := u.Hostname()
	if host == "" {
		return refuse("no host")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return refuse("no such port")
		}
		port = uint16(n)
	}
	return u, g.precheck(host, port, u.Scheme == "http")
}

// precheck refuses at load what every dial would refuse: a literal address, localhost, plain http where nothing may be
// reached by it, a port no public address may have.
func (g *guard) precheck(host string, port uint16, plain bool) error {
	a, err := netip.ParseAddr(host)
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case err == nil:
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // https://www.rfc-editor.org/rfc/rfc6761#section-6.3
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if v6 := netip.IPv6Loopback(); !g.isPrivate(a) && g.isPrivate(v6) {
			a = v6
		}
	case len(*g.private.Load()) > 0: // may be one of those
		return nil
	default:
		a = netip.AddrFrom4([4]byte{1, 1, 1, 1}) // public, for all that is known
	}
	err = g.check(netip.AddrPortFrom(a, port), plain)
	switch {
	case err == nil:
		return nil
	case plain:
		return fmt.Errorf("%w: must be https; plain http is for addresses in allow_private_endpoints", ErrURL)
	case err == errBlocked:
		return fmt.Errorf("%w: not public, and not in allow_private_endpoints", ErrURL)
	default:
		return fmt.Errorf("%w: port must be 443 or above 1023", ErrURL)
	}
}

// reach refuses a name of which every address is refused. The answer of the DNS may be another one when it is dialled, and is
// checked again then.
func (g *guard) reach(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	resolver := g.names
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	list, err := resolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(list) == 0 {
		return nil
	}
	port, plain := uint64(443), u.Scheme == "http"
	if plain {
		port = 80
	}
	if p := u.Port(); p != "" {
		port, _ = strconv.ParseUint(p, 10, 16) // address has read it
	}
	for _, a := range list {
		if g.check(netip.AddrPortFrom(a, uint16(port)), plain) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: its name leads to no public address, nor to one in allow_private_endpoints", ErrURL)
}
