package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

var signCommand = command{
	name: "sign", args: "-secret whsec_... [-id I] [-timestamp T] [-method M -target T] < body", summary: "the three headers of a signed request or event",
	help: `
The payload is standard input. With -method and -target it is METHOD SP TARGET LF BODY, as every partner route but
POST messages and POST messages/batch wants it. -secret-file keeps the secret out of the list of processes.`,
	run: sign,
}

var verifyCommand = command{
	name: "verify", args: "-secret whsec_... -id I -timestamp T -signature S [-method M -target T] < body", summary: "whether a signature holds, and why not",
	help: `
Exit 0 when it holds. Otherwise 1, and the first word says why: id, skew, headers, secret or payload. The clock is
compared with -now, and not at all with -tolerance 0.`,
	run: verify,
}

// signing is what both commands read.
type signing struct {
	secret, file, id, timestamp, method, target *string
}

func signingFlags(fs *flag.FlagSet) signing {
	return signing{
		secret: fs.String("secret", "", "the `whsec_...`, several with commas"), file: fs.String("secret-file", "", "a `file` with it, one per line"),
		id: fs.String("id", "", "the webhook-id (sign: a new one)"), timestamp: fs.String("timestamp", "", "Unix `seconds` (sign: now)"),
		method: fs.String("method", "", "of a partner route, such as `GET`"), target: fs.String("target", "", "the raw request target, such as `/v1/partners/orders/messages?limit=5`"),
	}
}

// read gives the secrets, their texts and the body.
func (s signing) read(p *program) (secrets []webhook.Secret, texts []string, body []byte, err error) {
	text := *s.secret
	if *s.file != "" {
		raw, err := os.ReadFile(*s.file)
		if err != nil {
			return nil, nil, nil, err
		}
		text += "," + strings.ReplaceAll(strings.TrimPrefix(string(raw), "\ufeff"), "\n", ",")
	}
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		parsed, err := webhook.ParseSecret(one)
		if err != nil {
			return nil, nil, nil, usagef("-secret: %v", err)
		}
		secrets, texts = append(secrets, parsed), append(texts, one)
	}
	if len(secrets) == 0 {
		return nil, nil, nil, usagef("-secret is missing")
	}
	if (*s.method == "") != (*s.target == "") {
		return nil, nil, nil, usagef("-method and -target come together")
	}
	body, err = io.ReadAll(io.LimitReader(p.input(), maxInput+1))
	if err == nil && len(body) > maxInput {
		err = errors.New("standard input: larger than 64MiB")
	}
	return secrets, texts, body, err
}

const maxInput = 64 << 20

// payload is what is signed.
func (s signing) payload(body []byte) []byte {
	if *s.method == "" {
		return body
	}
	return webhook.TargetPayload(strings.ToUpper(*s.method), *s.target, body)
}

func sign(p *program, fs *flag.FlagSet, args []string) error {
	s := signingFlags(fs)
	if _, err := parse(fs, args); err != nil {
		return err
	}
	secrets, _, body, err := s.read(p)
	if err != nil {
		return err
	}
	at := time.Now()
	if *s.timestamp != "" {
		seconds, err := strconv.ParseInt(*s.timestamp, 10, 64)
		if err != nil {
			return usagef("-timestamp %q: Unix seconds are wanted", *s.timestamp)
		}
		at = time.Unix(seconds, 0)
	}
	if *s.id == "" {
		*s.id = fmt.Sprintf("cli_%x", random(12))
	}
	if !webhook.ValidID(*s.id) {
		return usagef("-id: wants 1 to 128 visible ASCII characters without . and ,")
	}
	_, err = fmt.Fprintf(p.stdout, "webhook-id: %s\nwebhook-timestamp: %d\nwebhook-signature: %s\n", *s.id, at.Unix(), webhook.Sign(secrets, *s.id, at, s.payload(body)))
	return err
}

func verify(p *program, fs *flag.FlagSet, args []string) error {
	s := signingFlags(fs)
	signature := fs.String("signature", "", "the webhook-signature, `v1,...`")
	now := fs.String("now", "", "Unix `seconds` to compare the timestamp with (default: this machine's clock)")
	tolerance := fs.Duration("tolerance", webhook.Tolerance, "how far the clocks may be apart; 0 = any")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	for name, value := range map[string]string{"id": *s.id, "timestamp": *s.timestamp, "signature": *signature} {
		if value == "" {
			return usagef("-%s is missing", name)
		}
	}
	clock := time.Now()
	if *now != "" {
		seconds, err := strconv.ParseInt(*now, 10, 64)
		if err != nil {
			return usagef("-now %q: Unix seconds are wanted", *now)
		}
		clock = time.Unix(seconds, 0)
	}
	secrets, texts, body, err := s.read(p)
	if err != nil {
		return err
	}
	if why := s.whyNot(secrets, texts, body, *signature, clock, *tolerance); why != "" {
		fmt.Fprintln(p.stdout, why)
		return errSilent
	}
	_, err = fmt.Fprintln(p.stdout, "ok: the signature holds")
	return err
}

// whyNot says why a signature does not hold; "" when it does.
func (s signing) whyNot(secrets []webhook.Secret, texts []string, body []byte, signature string, now time.Time, tolerance time.Duration) string {
	if !webhook.ValidID(*s.id) {
		return "id: wants 1 to 128 visible ASCII characters without . and ,"
	}
	seconds, err := strconv.ParseInt(*s.timestamp, 10, 64)
	if err != nil {
		return fmt.Sprintf("skew: the timestamp %q is no number of Unix seconds", *s.timestamp)
	}
	at := time.Unix(seconds, 0)
	if skew := at.Sub(now); tolerance > 0 && skew.Abs() > tolerance {
		hint := ""
		if seconds > 1e11 {
			hint = "; these are milliseconds, seconds are wanted"
		}
		return fmt.Sprintf("skew: the timestamp is %s from now, at most %s%s", skew.Round(time.Second), tolerance, hint)
	}
	header := func(sig string) http.Header {
		return http.Header{"Webhook-Id": {*s.id}, "Webhook-Timestamp": {*s.timestamp}, "Webhook-Signature": {sig}}
	}
	holds := func(payload []byte, sig string) bool { return webhook.Verify(secrets, header(sig), payload, at) == nil }
	if holds(s.payload(body), signature) {
		return ""
	}
	if !strings.HasPrefix(signature, "v1,") {
		if holds(s.payload(body), "v1,"+signature) {
			return "headers: the signature is right, but for v1, in front of it"
		}
		return "headers: the signature does not begin with v1,"
	}
	if as := s.signedAs(body, holds, signature); as != "" {
		return "payload: signed over something else: " + as
	}
	return s.secretFault(texts, body, signature)
}

// signedAs names the payload a signature really is over, where it is one of the usual mistakes.
func (s signing) signedAs(body []byte, holds func([]byte, string) bool, signature string) string {
	trimmed := bytes.TrimRight(body, "\r\n")
	for _, m := range []struct {
		payload []byte
		name    string
	}{
		{body, "the body alone; this route wants METHOD SP TARGET LF BODY"},
		{s.payload(trimmed), "the body without the line end at its end"},
		{s.payload(append(slices.Clone(body), '\n')), "the body with a line end more"},
		{s.payload(nil), "an empty body"},
		{bytes.TrimPrefix(s.payload(body), []byte("\xef\xbb\xbf")), "the body without its byte order mark"},
	} {
		if holds(m.payload, signature) {
			return m.name
		}
	}
	return ""
}

// secretFault tells a mistaken use of the secret from another secret.
func (s signing) secretFault(texts []string, body []byte, signature string) string {
	content := append([]byte(*s.id+"."+*s.timestamp+"."), s.payload(body)...)
	for _, text := range texts {
		for key, how := range map[string]string{text: "the text of the secret with whsec_", strings.TrimPrefix(text, "whsec_"): "the base64 text behind whsec_"} {
			mac := hmac.New(sha256.New, []byte(key))
			mac.Write(content)
			sum := mac.Sum(nil)
			if signature == "v1,"+base64.StdEncoding.EncodeToString(sum) || signature == "v1,"+hex.EncodeToString(sum) {
				return "secret: signed with " + how + "; the key is the bytes that the base64 behind whsec_ stands for"
			}
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
		mac := hmac.New(sha256.New, raw)
		mac.Write(content)
		if err == nil && strings.EqualFold(signature, "v1,"+hex.EncodeToString(mac.Sum(nil))) {
			return "headers: the signature is right but written in hex; base64 is wanted"
		}
	}
	return "secret: made with another secret, or over another payload, id or timestamp"
}
