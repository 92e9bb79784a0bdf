package webhook_test

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

func ExampleSign() {
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Unix(1614265330, 0)
	fmt.Println(webhook.Sign([]webhook.Secret{secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`)))
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleVerify() {
	secret, err := webhook.ParseSecret(webhook.GenerateSecret())
	if err != nil {
		fmt.Println(err)
		return
	}
	secrets, now, body := []webhook.Secret{secret}, time.Now(), []byte(`{"type":"message.sent"}`)
	h := http.Header{}
	h.Set("webhook-id", "evt_1")
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", webhook.Sign(secrets, "evt_1", now, body))
	fmt.Println(webhook.Verify(secrets, h, body, now))
	fmt.Println(webhook.Verify(secrets, h, append(body, ' '), now))
	// Output:
	// <nil>
	// webhook: not signed as it must be
}

// A route's payload is signed with its method and target, so that a signature is good for one route only.
func ExampleTargetPayload() {
	fmt.Printf("%q\n", webhook.TargetPayload("PUT", "/v1/partners/orders/endpoints/main", []byte(`{}`)))
	// Output: "PUT /v1/partners/orders/endpoints/main\n{}"
}
