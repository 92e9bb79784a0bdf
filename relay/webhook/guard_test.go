package webhook

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestGuardByAddress(t *testing.T) {
	closed := newGuard(nil)
	opened := newGuard(prefixes("10.1.0.0/16", "127.0.0.0/8", "fd00::/8"))
	tests := []struct {
		address                   string
		secure, plain             bool // with nothing allowed
		openedSecure, openedPlain bool // with the ranges above allowed
	}{
		{"1.1.1.1:443", true, false, true, false},
		{"1.1.1.1:8443", true, false, true, false},
		{"1.1.1.1:25", false, false, false, false},
		{"1.1.1.1:22", false, false, false, false},
		{"1.1.1.1:80", false, false, false, false},
		{"[2606:4700:4700::1111]:443", true, false, true, false},
		{"127.0.0.1:443", false, false, true, true},
		{"127.0.0.1:80", false, false, true, true},
		{"127.8.9.10:9000", false, false, true, true},
		{"[::1]:443", false, false, false, false},
		{"[::ffff:127.0.0.1]:443", false, false, true, true},
		{"[::ffff:10.2.0.1]:443", false, false, false, false},
		{"10.1.2.3:25", false, false, true, true},
		{"10.2.0.1:443", false, false, false, false},
		{"172.16.0.1:443", false, false, false, false},
		{"192.168.1.1:443", false, false, false, false},
		{"0.0.0.0:443", false, false, false, false},
		{"[::]:443", false, false, false, false},
		{"169.254.169.254:443", false, false, false, false}, // clouds' metadata
		{"100.100.100.200:443", false, false, false, false}, // Alibaba's
		{"168.63.129.16:443", false, false, false, false},   // Azure's
		{"[fd00:ec2::254]:443", false, false, true, true},   // AWS's, in the range allowed above
		{"[fe80::1%eth0]:443", false, false, false, false},
		{"[64:ff9b::7f00:1]:443", false, false, false, false}, // NAT64 of 127.0.0.1
		{"[64:ff9b:1::a00:1]:443", false, false, false, false},
		{"[2002:7f00:1::]:443", false, false, false, false}, // 6to4
		{"[2001::1]:443", false, false, false, false},       // Teredo
		{"[2001:db8::1]:443", false, false, false, false},
		{"[5f00::1]:443", false, false, false, false}, // SRv6
		{"224.0.0.1:443", false, false, false, false},
		{"255.255.255.255:443", false, false, false, false},
		{"198.51.100.7:443", false, false, false, false},
		{"no address", false, false, false, false},
	}
	for _, tt := range tests {
		for _, c := range []struct {
			what  string
			g     *guard
			plain bool
			want  bool
		}{
			{"https", closed, false, tt.secure}, {"http", closed, true, tt.plain},
			{"https, ranges allowed", opened, false, tt.openedSecure}, {"http, ranges allowed", opened, true, tt.openedPlain},
		} {
			err := c.g.control(c.plain)(context.Background(), "tcp", tt.address, nil)
			if (err == nil) != c.want {
				t.Errorf("%s over %s: %v", tt.address, c.what, err)
			}
			if err != nil && !errors.Is(err, errBlocked) {
				t.Errorf("%s: %v is not errBlocked", tt.address, err)
			}
		}
	}
}

func TestCheckURL(t *testing.T) {
	closed, opened := NewSender(SenderOptions{}), NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.0/8", "10.0.0.0/8")})
	long := "https://example.com/" + strings.Repeat("a", 2048-len("https://example.com/"))
	tests := []struct {
		url            string
		closed, opened bool
	}{
		{"https://example.com/hook?token=1", true, true},
		{"https://example.com:8443", true, true},
		{"https://example.com:25/", false, true}, // with ranges allowed the name may be one of those: the dial decides
		{"https://[2606:4700:4700::1111]/", true, true},
		{long, true, true},
		{long + "a", false, false},
		{"http://example.com/hook", false, true},
		{"http://127.0.0.1:9/hook", false, true},
		{"https://127.0.0.1/hook", false, true},
		{"https://localhost/", false, true},
		{"https://LOCALHOST./", false, true},
		{"https://a.localhost/", false, true},
		{"https://10.0.0.1/", false, true},
		{"https://192.168.0.1/", false, false},
		{"https://169.254.169.254/latest/meta-data", false, false},
		{"https://168.63.129.16/", false, false},
		{"https://[::1]/", false, false},
		{"https://[::ffff:127.0.0.1]/", false, true},
		{"http://1.1.1.1/", false, false},
		{"https://user@example.com/", false, false},
		{"https://user:word@example.com/", false, false},
		{"https://@example.com/", false, false},
		{"https://example.com/#x", false, false},
		{"https://example.com/#", false, false},
		{"ftp://example.com/", false, false},
		{"gopher://127.0.0.1/", false, false},
		{"file:///etc/passwd", false, false},
		{"https:example.com", false, false},
		{"https:///hook", false, false},
		{"https://", false, false},
		{"//example.com/", false, false},
		{"example.com/hook", false, false},
		{"", false, false},
		{"https://example.com:0/", false, false},
		{"https://example.com:/", false, false},
		{"https://example.com:99999/", false, false},
		{"https://exa mple.com/", false, false},
		{"https://example.com\\@127.0.0.1/", false, false},
		{"https://example.com/\nX: y", false, false},
		{"https://example.com/%zz?secret=hunter2", false, false},
	}
	for _, tt := range tests {
		for name, c := range map[string]struct {
			sender *Sender
			want   bool
		}{"closed": {closed, tt.closed}, "opened": {opened, tt.opened}} {
			err := c.sender.CheckURL(tt.url)
			if (err == nil) != c.want {
				t.Errorf("%s, %q: %v", name, tt.url, err)
			}
			if err != nil && (!errors.Is(err, ErrURL) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("%q: %v", tt.url, err)
			}
			if o := c.sender.Deliver(canceled(), Attempt{Endpoint: Endpoint{URL: tt.url}}); (o.Kind == Blocked) != !c.want {
				t.Errorf("%s, %q: delivery says %q where load says %v", name, tt.url, o.Kind, err)
			}
		}
	}
	closed.Allow(prefixes("10.0.0.0/8"))
	if err := closed.CheckURL("http://10.0.0.1/"); err != nil {
		t.Errorf("after Allow: %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://example.com/")
	f.Add("http://user:pw@[::1%25eth0]:80/#f")
	g := newGuard(nil)
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := g.address(raw)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Hostname() == "" || len(raw) > maxURL {
			t.Fatalf("%q was let through as %v", raw, u)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && g.public.SafeAddr(a.Unmap()) != nil {
			t.Fatalf("%q: %v is not public", raw, a)
		}
	})
}
