package console

import (
	"net/http"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// User is the search for a user, and what is known about one: the account of each template, and the latest messages.
type User struct {
	Frame    `json:"-"`
	Apps     []string             `json:"-"`
	Partners []string             `json:"-"`
	App      string               `json:"app"`
	OpenID   string               `json:"openid"`
	Partner  string               `json:"partner"` // whose name for the user is given
	Name     string               `json:"user"`
	Asked    bool                 `json:"-"`
	Lines    []relay.Subscription `json:"subscriptions"`
	Messages []relay.Message      `json:"messages"`
}

func (*User) template() string { return "user" }

// MessagesTable is the user's messages for the part that draws them.
func (p *User) MessagesTable() Table[relay.Message] {
	return Table[relay.Message]{&p.Frame, p.Messages}
}

func (c *Console) user(r *http.Request) (page, error) {
	q := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	rules := c.o.Relay.Rules()
	p := &User{Apps: names(rules.Apps), Partners: names(rules.Partners), App: q("app"), OpenID: q("openid"), Partner: q("partner"), Name: q("user"),
		Lines: []relay.Subscription{}, Messages: []relay.Message{}}
	if p.OpenID == "" && (p.Partner == "" || p.Name == "") {
		return p, nil
	}
	if _, ok := rules.Apps[p.App]; !ok {
		return nil, relay.ErrNotFound
	}
	if p.OpenID == "" {
		b, err := c.o.Relay.Binding(r.Context(), p.Partner, p.App, p.Name)
		if err != nil {
			return nil, err
		}
		p.OpenID = b.OpenID
	}
	var err error
	if p.Lines, err = c.o.Relay.SubscriptionsOf(r.Context(), p.App, p.OpenID); err != nil {
		return nil, err
	}
	p.Asked = true
	p.Messages, _, err = c.latest(r.Context(), "", relay.MessageQuery{App: p.App, OpenID: p.OpenID}, "", func(*relay.Message) bool { return true })
	return p, err
}
