package relay

import (
	"context"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Who asks for a template that is known never waits for WeChat, however old the list: a silent WeChat, or another item of
// the same batch with a template nobody knows, keeps nobody.
func TestAKnownTemplateNeverWaits(t *testing.T) {
	silent, asked := make(chan struct{}), make(chan struct{}, 8)
	lists := &templates{fetch: func(ctx context.Context, _ string) ([]wechat.Template, error) {
		asked <- struct{}{}
		<-silent
		return []wechat.Template{{ID: "new"}, {ID: "old", Title: "changed"}}, nil
	}}
	long := time.Now().Add(-time.Hour)
	lists.apps = map[string]*templateList{"shop": {byID: map[string]wechat.Template{"old": {ID: "old"}}, at: long, try: long}}
	unknown := make(chan bool)
	go func() {
		_, ok, _ := lists.get(t.Context(), "shop", "new")
		unknown <- ok
	}()
	<-asked // it holds the line to WeChat
	for range 3 {
		if tpl, ok, known := lists.get(t.Context(), "shop", "old"); !ok || !known || tpl.Title != "" {
			t.Fatalf("%+v %v %v", tpl, ok, known)
		}
	}
	close(silent)
	if !<-unknown {
		t.Error("the new template was not found")
	}
	if tpl, _, _ := lists.get(t.Context(), "shop", "old"); tpl.Title != "changed" || len(asked) != 0 {
		t.Errorf("%+v, asked %d times more", tpl, len(asked))
	}
}
