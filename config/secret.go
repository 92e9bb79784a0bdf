package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// masked is what every printer makes of a secret.
const masked = "***"

// Secret is a value that must not be printed: every verb, String, JSON and YAML give ***. The text sits behind a
// pointer, so that even a printer that walks unexported fields shows an address.
type Secret struct{ text *string }

func newSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{text: &s}
}

// Reveal gives the secret itself, "" when there is none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether nothing was given.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal reports whether two secrets hold the same text.
func (s Secret) Equal(o Secret) bool { return s.Reveal() == o.Reveal() }

// String gives ***, or "" when nothing was given.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return masked
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format writes String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalJSON gives String.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalYAML gives String.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// HookURL is a partner's address. The program has it as it is; Show masks what its query carries.
type HookURL string

// URL is an address that may carry credentials: it prints with its password, and what its query may carry, as ***.
type URL struct{ raw Secret }

func newURL(s string) URL { return URL{newSecret(s)} }

// Reveal gives the address with its credentials.
func (u URL) Reveal() string { return u.raw.Reveal() }

// IsZero reports whether nothing was given.
func (u URL) IsZero() bool { return u.raw.IsZero() }

// Equal reports whether two addresses are the same, credentials included.
func (u URL) Equal(o URL) bool { return u.raw.Equal(o.raw) }

// String gives the address without its secrets.
func (u URL) String() string { return maskURL(u.Reveal()) }

// GoString is String.
func (u URL) GoString() string { return u.String() }

// Format writes String for every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// MarshalJSON gives String.
func (u URL) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

// MarshalYAML gives String.
func (u URL) MarshalYAML() (any, error) { return u.String(), nil }

var secretParameter = regexp.MustCompile(`(?i)pass|secret|key|token|sign|auth`)

// maskURL masks by position, not by parsing: an address that does not parse must not show its password either. A user
// without a password may be a password whose colon was forgotten. Of a web address every query value is masked, since
// whoever made it names a token as he likes; Redis' options have known names.
func maskURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		if raw == "" {
			return ""
		}
		return masked
	}
	rest, query, asked := strings.Cut(rest, "?")
	if strings.Contains(query, "@") { // of a password with a ? in it, or of anything else: nothing can be told apart
		return scheme + "://" + masked
	}
	// The last @ ends the credentials: a password with a raw @ or / in it is wrong, and still not shown.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, hasPassword := strings.Cut(rest[:at], ":")
		if hasPassword {
			rest = user + ":" + masked + rest[at:]
		} else {
			rest = masked + rest[at:]
		}
	}
	out := scheme + "://" + rest
	if asked {
		web := strings.EqualFold(scheme, "https") || strings.EqualFold(scheme, "http")
		pairs := strings.Split(query, "&")
		for i, pair := range pairs {
			name, _, has := strings.Cut(pair, "=")
			plain, err := url.QueryUnescape(name)
			switch {
			case has && (web || err != nil || secretParameter.MatchString(plain)):
				pairs[i] = name + "=" + masked
			case web && pair != "": // a token alone
				pairs[i] = masked
			}
		}
		out += "?" + strings.Join(pairs, "&")
	}
	return out
}

// EmbeddedURL is the redis.url of the in-process store.
func EmbeddedURL() URL { return newURL("embedded://") }
