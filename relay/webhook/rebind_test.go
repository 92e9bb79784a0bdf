package webhook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a DNS server that answers each question for A with the next address of a list, the last one again and again.
func names(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var asked atomic.Int64
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeSuccess, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				at := int(min(asked.Add(1), int64(len(addresses)))) - 1
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
					Body: &dnsmessage.AResource{A: netip.MustParseAddr(addresses[at]).As4()}}}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A name whose address was public when it was checked and is private when it is dialled is not reached: the dial decides.
func TestANameThatChangesItsAddress(t *testing.T) {
	var reached atomic.Int64
	_, _, srv := partner(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) }, SenderOptions{})
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	target := "https://rebind.example:" + u.Port() + "/hook"
	s := NewSender(SenderOptions{names: names(t, "93.184.215.14", "127.0.0.1")})
	if err := s.CheckReach(t.Context(), target); err != nil {
		t.Fatalf("refused while its address is public: %v", err)
	}
	o := s.Deliver(t.Context(), Attempt{Endpoint: Endpoint{URL: target, Secrets: []Secret{secret(t, vectorSecret)}}, ID: "evt_1", Payload: []byte("{}"), Number: 1})
	if o.Kind != Blocked || reached.Load() != 0 {
		t.Errorf("%+v, reached %d times", o, reached.Load())
	}
	if err := s.CheckReach(t.Context(), target); !errors.Is(err, ErrURL) {
		t.Errorf("taken though its address is private: %v", err)
	}
	allowed := NewSender(SenderOptions{names: names(t, "127.0.0.1"), AllowPrivate: prefixes("127.0.0.0/8")})
	if err := allowed.CheckReach(t.Context(), target); err != nil {
		t.Errorf("refused in an allowed network: %v", err)
	}
	if err := NewSender(SenderOptions{names: names(t)}).CheckReach(t.Context(), "ftp://x"); !errors.Is(err, ErrURL) {
		t.Error(err)
	}
}
