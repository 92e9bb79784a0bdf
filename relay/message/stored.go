package message

import (
	"encoding/binary"
	"encoding/json"
	"errors"
)

// How a Draft and a Progress stand in their job: one field after the other, in the order below, with no names. A
// text is its length and its bytes, a number a varint, a list its length and its items. A reader that comes to the
// end takes the rest as zero, and leaves what it does not know: new fields go to the end, and none is ever taken out
// (DECISIONS 8 of package relay).

// packed begins every draft and progress of this form.
const packed = 1

// Pack is the stored form.
func (o *Draft) Pack() []byte {
	n := 128 + len(o.Metadata)
	for _, p := range o.Payloads {
		n += len(p)
	}
	p := packer{append(make([]byte, 0, n), packed)}
	p.text(o.Partner)
	p.text(o.App)
	p.text(o.OpenID)
	p.text(o.User)
	p.num(int64(len(o.Channels)))
	for _, c := range o.Channels {
		p.text(c)
	}
	p.text(o.TemplateID)
	p.text(o.Kind)
	p.num(int64(len(o.Payloads)))
	for _, w := range o.Payloads {
		p.text(string(w))
	}
	p.text(o.NoCredit)
	p.flag(o.Retry)
	p.num(o.Expires)
	p.text(string(o.Metadata))
	p.text(o.Supersede)
	p.text(o.Audience)
	p.text(o.Account)
	p.num(o.Created)
	p.num(o.Due)
	p.text(o.Priority)
	p.num(int64(o.First))
	p.num(o.Every)
	p.text(o.Keyword)
	p.text(o.Value)
	p.text(o.Trace)
	return p.b
}

func (o *Draft) unpack(b []byte) error {
	u, err := open(b)
	if err != nil {
		return err
	}
	o.Partner, o.App, o.OpenID, o.User = u.text(), u.text(), u.text(), u.text()
	o.Channels = make([]string, u.count())
	for i := range o.Channels {
		o.Channels[i] = u.text()
	}
	o.TemplateID, o.Kind = u.text(), u.text()
	o.Payloads = make([]json.RawMessage, u.count())
	for i := range o.Payloads {
		o.Payloads[i] = json.RawMessage(u.text())
	}
	o.NoCredit, o.Retry, o.Expires = u.text(), u.flag(), u.num()
	if m := u.text(); m != "" {
		o.Metadata = []byte(m)
	}
	o.Supersede, o.Audience, o.Account = u.text(), u.text(), u.text()
	o.Created, o.Due, o.Priority, o.First = u.num(), u.num(), u.text(), int(u.num())
	o.Every, o.Keyword, o.Value, o.Trace = u.num(), u.text(), u.text(), u.text()
	if len(o.Channels) == 0 || len(o.Payloads) != len(o.Channels) || o.First < 0 || o.First >= len(o.Channels) {
		return errTorn
	}
	return u.err
}

// Pack is the stored form.
func (s *Progress) Pack() []byte {
	p := packer{append(make([]byte, 0, 64+48*len(s.Steps)), packed)}
	p.text(s.State)
	p.num(int64(s.Channel))
	p.num(int64(s.Booked))
	p.num(s.Open)
	p.text(s.MsgID)
	p.code(s.Errcode)
	p.text(s.Errmsg)
	p.text(s.RID)
	p.num(int64(s.Attempts))
	p.num(int64(s.Lapses))
	p.num(s.Resent)
	p.num(s.At)
	p.num(int64(len(s.Steps)))
	for i := range s.Steps {
		h := &s.Steps[i]
		p.num(h.At)
		p.text(h.State)
		p.text(h.Cause)
		p.code(h.Errcode)
	}
	p.text(s.Cred)
	p.num(s.CredUntil)
	return p.b
}

func (s *Progress) unpack(b []byte) error {
	u, err := open(b)
	if err != nil {
		return err
	}
	s.State, s.Channel, s.Booked, s.Open = u.text(), int(u.num()), int(u.num()), u.num()
	s.MsgID, s.Errcode, s.Errmsg, s.RID = u.text(), u.code(), u.text(), u.text()
	s.Attempts, s.Lapses, s.Resent, s.At = int(u.num()), int(u.num()), u.num(), u.num()
	n := u.count()
	s.Steps = make([]Entry, n, n+4) // room for what is about to happen
	for i := range s.Steps {
		s.Steps[i] = Entry{At: u.num(), State: u.text(), Cause: u.text(), Errcode: u.code()}
	}
	s.Cred, s.CredUntil = u.text(), u.num()
	return u.err
}

// Unpack takes a message out of its stored form.
func Unpack(body, note []byte) (o Draft, s Progress, err error) {
	if err = o.unpack(body); err == nil {
		err = s.unpack(note)
	}
	if err == nil && (s.Channel < 0 || s.Channel >= len(o.Channels)) {
		err = errTorn
	}
	return o, s, err
}

var errTorn = errors.New("message: not a stored message")

type packer struct{ b []byte }

func (p *packer) num(n int64) { p.b = binary.AppendVarint(p.b, n) }

func (p *packer) text(s string) {
	p.b = binary.AppendUvarint(p.b, uint64(len(s)))
	p.b = append(p.b, s...)
}

func (p *packer) flag(f bool) {
	if f {
		p.b = append(p.b, 1)
		return
	}
	p.b = append(p.b, 0)
}

// code is an errcode, or none.
func (p *packer) code(c *int) {
	p.flag(c != nil)
	if c != nil {
		p.num(int64(*c))
	}
}

// unpacker reads what a packer wrote. Texts are pieces of one string.
type unpacker struct {
	s   string
	err error
}

func open(b []byte) (*unpacker, error) {
	if len(b) == 0 || b[0] != packed {
		return nil, errTorn
	}
	return &unpacker{s: string(b[1:])}, nil
}

func (u *unpacker) uvarint() (n uint64) {
	for shift := 0; shift < 64 && u.s != ""; shift += 7 {
		c := u.s[0]
		u.s = u.s[1:]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
		if u.s == "" {
			u.err = errTorn
		}
	}
	return n
}

func (u *unpacker) num() int64 {
	n := u.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) text() string {
	n := u.uvarint()
	if n > uint64(len(u.s)) {
		u.s, u.err = "", errTorn
		return ""
	}
	s := u.s[:n]
	u.s = u.s[n:]
	return s
}

// count is the length of a list, each of whose items takes a byte at least.
func (u *unpacker) count() int {
	n := u.num()
	if n < 0 || n > int64(len(u.s)) {
		u.s, u.err = "", errTorn
		return 0
	}
	return int(n)
}

func (u *unpacker) flag() bool { return u.uvarint() == 1 }

func (u *unpacker) code() *int {
	if !u.flag() {
		return nil
	}
	n := int(u.num())
	return &n
}
