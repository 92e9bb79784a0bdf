package gateway

import (
	"net/http/httptest"
	"testing"
)

func TestLimitKey(t *testing.T) {
	for name, c := range map[string]struct {
		peer string
		xff  []string
		want string
	}{
		"public peer":                     {"203.0.113.9:4711", nil, "203.0.113.9"},
		"public peer cannot rename":       {"203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		"proxy on this machine":           {"127.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"proxy in a private net":          {"10.0.0.7:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"what the client wrote is naught": {"10.0.0.7:1", []string{"1.2.3.4, 198.51.100.1"}, "198.51.100.1"},
		"two proxies of ours":             {"10.0.0.7:1", []string{"1.2.3.4, 198.51.100.1, 192.168.3.4"}, "198.51.100.1"},
		"in two lines":                    {"10.0.0.7:1", []string{"1.2.3.4", "198.51.100.1", "192.168.3.4"}, "198.51.100.1"},
		"all private":                     {"10.0.0.7:1", []string{"192.168.3.5"}, "192.168.3.5"},
		"not an address":                  {"10.0.0.7:1", []string{"198.51.100.1, nonsense"}, "10.0.0.7"},
		"empty":                           {"10.0.0.7:1", []string{""}, "10.0.0.7"},
		"v6 counts by its net":            {"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::"},
		"v4 in v6":                        {"[::ffff:203.0.113.9]:1", nil, "203.0.113.9"},
		"carrier-grade NAT":               {"100.64.0.9:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"through it":                      {"10.0.0.7:1", []string{"198.51.100.1, 100.127.255.254"}, "198.51.100.1"},
		"next to it":                      {"100.128.0.1:1", []string{"198.51.100.1"}, "100.128.0.1"},
		"unique local":                    {"[fd00::1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"link-local is no proxy":          {"169.254.1.1:1", []string{"198.51.100.1"}, "169.254.1.1"},
		"with a port":                     {"10.0.0.7:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"v6 with a port":                  {"10.0.0.7:1", []string{"[2001:db8:1:2::9]:4711"}, "2001:db8:1:2::"},
		"zone":                            {"[fe80::1%eth0]:1", []string{"198.51.100.1"}, "fe80::"},
		"not a socket":                    {"pipe", nil, "pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.xff
			if got := DefaultProxies().limitKey(r); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
