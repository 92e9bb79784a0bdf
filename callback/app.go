package callback

import "time"

// Mode is how an app's pushes are secured, as set in WeChat's console.
type Mode string

// The modes. A push weaker than its app's mode is refused, a stronger one is taken.
const (
	Secure Mode = "secure" // 安全模式: only the encrypted message counts, msg_signature proves it
	Compat Mode = "compat" // 兼容模式: encrypted and plain side by side; the encrypted message counts
	Plain  Mode = "plain"  // 明文模式: signature proves that the sender knows the token, nothing proves the body
)

// Key is one pair of the console's Token and EncodingAESKey (43 characters). It holds secrets and prints as ***.
type Key struct{ Token, EncodingAESKey string }

// String hides the secrets; so does GoString.
func (Key) String() string { return "***" }

// GoString hides the secrets from %#v.
func (Key) GoString() string { return "***" }

// App is the configuration of one app. It holds secrets and prints as its name.
type App struct {
	Name       string        // in our URLs
	AppID      string        // stands at the end of what is encrypted; for the pushes of a third-party platform its own appid
	OriginalID string        // gh_...; when set, ToUserName must be it
	Mode       Mode          // "" is Secure
	Key        Key           // EncodingAESKey may be empty in Plain: then an encrypted push is refused
	Previous   []Key         // still taken while rotating; an empty half is the half of Key
	MaxAge     time.Duration // of the URL's timestamp; 0 takes any age
	Reply      string        // "" or success, transfer_customer_service (the handler replies), partner (the sink replies)
	PayAppKey  string        // virtual payment's AppKey: when set, PayEventSig must be right
}

// String names the app and hides its secrets; so does GoString.
func (a App) String() string { return "app " + a.Name }

// GoString hides the secrets from %#v.
func (a App) GoString() string { return a.String() }
