package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks of the reverse proxies whose X-Forwarded-For and X-Forwarded-Prefix count (decision 1).
type Proxies []netip.Prefix

// DefaultProxies are this machine and the networks nobody reaches from the internet: loopback, RFC 1918, RFC 6598
// (where the load balancers of large clouds live) and unique local IPv6.
func DefaultProxies() Proxies {
	var out Proxies
	for _, p := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func (p Proxies) trust(ip netip.Addr) bool {
	for _, net := range p {
		if net.Contains(ip) {
			return true
		}
	}
	return false
}

// peer is the address at the other end of the connection.
func peer(r *http.Request) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap().WithZone(""), err == nil
}

// client is the address a request came from: the peer's, or, when the peer is a trusted proxy, the last address of
// X-Forwarded-For that is none. What stands before it is the client's own word.
func (p Proxies) client(r *http.Request) (netip.Addr, bool) {
	ip, ok := peer(r)
	if !ok || !p.trust(ip) {
		return ip, ok
	}
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var last string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, last = rest[:at], rest[at+1:]
			} else {
				last, more = rest, false
			}
			hop, ok := address(strings.TrimSpace(last))
			if !ok {
				return ip, true
			}
			if ip = hop; !p.trust(ip) {
				return ip, true
			}
		}
	}
	return ip, true
}

// address reads an address with or without a port: some load balancers add theirs.
func address(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		ip = ap.Addr()
	}
	return ip.Unmap().WithZone(""), true
}

// limitKey is the name a client's limits are counted under: its address, or the /64 of an IPv6 address, which is what
// one customer of a provider has.
func (p Proxies) limitKey(r *http.Request) string {
	ip, ok := p.client(r)
	if !ok {
		return r.RemoteAddr
	}
	if ip.Is6() {
		if net, err := ip.Prefix(64); err == nil {
			ip = net.Addr()
		}
	}
	return ip.String()
}

// Client names where a request came from, for logs.
func (p Proxies) Client(r *http.Request) string {
	if ip, ok := p.client(r); ok {
		return ip.String()
	}
	return r.RemoteAddr
}

// prefix is the path prefix a trusted proxy took off the target, "" when none did. A header that stands there twice, or
// is no path, is nobody's word.
func (p Proxies) prefix(r *http.Request) string {
	given := r.Header["X-Forwarded-Prefix"]
	if len(given) != 1 {
		return ""
	}
	if ip, ok := peer(r); !ok || !p.trust(ip) {
		return ""
	}
	prefix := strings.TrimRight(given[0], "/")
	if !strings.HasPrefix(prefix, "/") || len(prefix) > 256 || strings.ContainsAny(prefix, " ?#,") {
		return ""
	}
	return prefix
}
