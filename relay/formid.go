package relay

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// The legacy template message (2017 to 2020) needs a form_id of a form submission or a prepay_id of a payment. WeChat has
// withdrawn it and answers 45103; the channel is kept because the founding documents are about it and the simulator has
// the era. https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/template-message/templateMessage.send.html

const (
	// A prepay_id is refused (41028) for some seconds after the payment, because WeChat learns of it late.
	prepaySettles  = 5 * time.Minute
	prepayPause    = 5 * time.Second
	credentialLife = 7 * 24 * time.Hour // of a form_id or prepay_id, WeChat's rule
)

// withFormID puts in the credential the message carries, or else the user's oldest one of the pool. The same message takes
// the same credential again, so a crash here spends none.
func (w *sending) withFormID(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	if w.ownFormID() != "" {
		return raw, nil
	}
	cred, err := w.r.bindings.Take(ctx, w.draft.App, w.draft.OpenID, "", w.c.ID)
	if err != nil {
		return nil, err
	}
	w.progress.Cred, w.progress.CredUntil = string(cred.Kind), cred.Expires.UnixMilli()
	return with(raw, "form_id", cred.ID)
}

// prepayForm is how a prepay_id of WeChat Pay begins: wx and the time of the order. A form_id does not.
var prepayForm = regexp.MustCompile(`^wx[0-9]{14}`)

// ownFormID is what the message itself carries.
func (w *sending) ownFormID() string { return w.draft.formID(w.progress.Channel) }

func (d *draft) formID(n int) string {
	var has struct {
		FormID string `json:"form_id"`
	}
	_ = json.Unmarshal(d.Payloads[n], &has) // ours
	return has.FormID
}

// lacksFormID tells whether channel n needs a form_id and there is none. It is a look, not a hold: of two messages that see
// the last one, the later fails when it is sent.
func (r *Relay) lacksFormID(ctx context.Context, d *draft, n int) (bool, error) {
	if d.Channels[n] != ChannelTemplate || d.NoCredit == "try" || d.formID(n) != "" {
		return false, nil
	}
	any, err := r.bindings.Any(ctx, d.App, d.OpenID)
	return !any, err
}

// formIDRefused: 41028 soon after a payment passes with time; otherwise the credential is bad, and the next one is taken.
func (w *sending) formIDRefused(api *wechat.APIError) queue.Verdict {
	if w.progress.Cred == "" { // the message brought its own; what it is, its form tells
		if api.Code == 41028 && prepayForm.MatchString(w.ownFormID()) && w.c.Now.Sub(time.UnixMilli(w.draft.Created)) < prepaySettles {
			return queue.Retry(prepayPause<<min(w.c.Attempts, 4), w.progress.Pack(), "prepay_id not settled")
		}
		return w.refusedFor(StateFailed, "wechat")
	}
	added := time.UnixMilli(w.progress.CredUntil).Add(-credentialLife)
	if api.Code == 41028 && w.progress.Cred == string(binding.PrepayID) && w.c.Now.Sub(added) < prepaySettles {
		return queue.Retry(prepayPause, w.progress.Pack(), "prepay_id not settled")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := w.r.bindings.Spoil(ctx, w.draft.App, w.draft.OpenID, w.c.ID); err != nil {
		w.r.log.Warn("credential not dropped", zap.String("message", w.c.ID), zap.Error(err))
		return queue.Snooze(time.Second, w.progress.Pack())
	}
	w.progress.Cred, w.progress.CredUntil = "", 0
	return queue.Snooze(0, w.progress.Pack())
}

// returnFormID gives the credential back when the message does not go for another reason. Should this fail, the credential
// stays with the message: one lost, none used twice.
func (r *Relay) returnFormID(d *draft, s *progress, id string) {
	if d.Channels[s.Channel] != ChannelTemplate || s.Cred == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.bindings.GiveBack(ctx, d.App, d.OpenID, id); err != nil {
		r.log.Warn("credential not given back", zap.String("message", id), zap.Error(err))
	}
}

// AddFormID keeps a legacy template credit that a form submission of the mini-program gave.
func (r *Relay) AddFormID(ctx context.Context, app, openid, formID string) error {
	return r.addCredential(ctx, app, openid, "form_id", binding.Credential{Kind: binding.FormID, ID: formID})
}

// CredentialRequest is a legacy template credit that a partner learnt of: exactly one of form_id and prepay_id, of one user.
type CredentialRequest struct {
	App      string `json:"app"`
	OpenID   string `json:"openid"`
	User     string `json:"user"`
	FormID   string `json:"form_id"`
	PrepayID string `json:"prepay_id"`
	Uses     int    `json:"uses"` // how many messages it is good for; 0 = 1
}

// AddCredential keeps it in the user's pool, for 7 days. The same one again changes nothing.
func (r *Relay) AddCredential(ctx context.Context, partner string, req CredentialRequest) error {
	app, err := r.appOf(partner, req.App)
	if err != nil {
		return err
	}
	var f faults
	c, field := binding.Credential{Kind: binding.FormID, ID: req.FormID, Uses: req.Uses}, "form_id"
	if req.FormID == "" {
		c.Kind, c.ID, field = binding.PrepayID, req.PrepayID, "prepay_id"
	}
	if (req.FormID == "") == (req.PrepayID == "") {
		f.add("form_id", "exactly one of form_id and prepay_id is required")
	}
	if req.Uses < 0 || req.Uses > 100 {
		f.add("uses", "must be from 1 to 100")
	}
	if err := f.err("invalid_request"); err != nil {
		return err
	}
	openid, err := r.openidOf(ctx, partner, app.Name, req.OpenID, req.User)
	if err != nil {
		return err
	}
	return r.addCredential(ctx, app.Name, openid, field, c)
}

func (r *Relay) addCredential(ctx context.Context, app, openid, field string, c binding.Credential) error {
	_, err := r.bindings.AddCredential(ctx, app, openid, c)
	if errors.Is(err, binding.ErrMock) {
		return invalid(field, "is a mock one of the developer tools: use a real device")
	}
	return err
}
