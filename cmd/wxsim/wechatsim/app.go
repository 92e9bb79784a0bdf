package wechatsim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Kind of an app.
type Kind string

// The kinds of app.
const (
	MiniProgram     Kind = "miniprogram"
	OfficialAccount Kind = "official_account"
)

// Mode in which pushes are encrypted.
type Mode string

// The modes of the message push settings page.
const (
	Plain  Mode = "plain"  // 明文
	Compat Mode = "compat" // 兼容
	Secure Mode = "secure" // 安全
)

// Format of pushes.
type Format string

// The formats of the message push settings page.
const (
	JSON Format = "json"
	XML  Format = "xml"
)

// Shape is one of the forms in which the same event was seen or documented. XML has one form.
type Shape string

// The shapes of a JSON push.
const (
	Captured   Shape = "captured"   // what real logs show: number CreateTime, List an object for one entry, keys sorted, string leaves
	Documented Shape = "documented" // what the page shows: string CreateTime, List always an array
	Wrapped    Shape = "wrapped"    // the XML's wrapper element carried over, as community code expects it
	Pretty     Shape = "pretty"     // Captured, indented and with a trailing newline
	AnyShape   Shape = "any"        // a die decides for every push
)

// App is what stands in WeChat's admin pages about one app. Empty fields are filled from the seed.
type App struct {
	Name       string // a handle for the control handler and for tests; "" = AppID
	Kind       Kind   // "" = MiniProgram
	AppID      string // wx + 16 hex
	Secret     string // 32 hex
	OriginalID string // gh_ + 12 hex

	Token          string // of the message push settings
	EncodingAESKey string // 43 characters
	Mode           Mode   // "" = Secure
	Format         Format // "" = JSON; XML for an official account
	Shape          Shape  // "" = Captured
	CallbackURL    string // "" = nothing is pushed

	Platform    string   // apps with the same open platform account share unionids; "" = no unionid
	IPWhitelist []string // who may ask for tokens; none = everybody
	Pages       []string // of the released version; none = every well-formed path is a page
	Blacklist   []string // words that bring 45168
	Templates   []Template

	PopupWhenKept bool // push the popup event although "always keep" showed no popup (undocumented either way)
	NoMsgID       bool // subscribe/send answers without msgid, as some accounts report
	NoSentEvents  bool // never push subscribe_msg_sent_event
	KeepBadCode   bool // a failed jscode2session does not burn the code

	FollowersOnly bool             // official account: 43004 for users who do not follow (Follow)
	PrepayUses    int              // of one prepay_id in 2018; 0 = 3
	PrepayLag     time.Duration    // after Pay during which 41028 is the answer
	Limits        map[string]Limit // by path, over the defaults of quota.go
	Overlap       time.Duration    // a superseded token keeps working; 0 = 5 min
	TokenLife     time.Duration    // 0 = 2 h
}

// TemplateType as gettemplate spells it.
type TemplateType int

// The template types.
const (
	OneTime  TemplateType = 2
	LongTerm TemplateType = 3
)

// Template is one message template in an app's library.
type Template struct {
	ID      string // priTmplId
	Title   string
	Content string // lines "标签:{{thing1.DATA}}\n"
	Example string
	Type    TemplateType // 0 = OneTime
	Enums   map[string][]string
	Legacy  bool // a 2018 template (keywordN): for wxopen/template/send only

	Frequency time.Duration // of a rate-limited long-term template: one message per this time and value of FrequencyKey
	FreqKey   string        // the mandatory keyword, such as "character_string1"; "" = per template
	OfOA      bool          // belongs to an official account's message/template/send
}

// keywords of the template in order of appearance.
func (t *Template) keywords() []string {
	var keys []string
	for rest := t.Content; ; {
		_, after, ok := strings.Cut(rest, "{{")
		if !ok {
			return keys
		}
		key, tail, ok := strings.Cut(after, ".DATA}}")
		if !ok {
			return keys
		}
		keys, rest = append(keys, key), tail
	}
}

func derive(seed uint64, parts ...any) [32]byte {
	return sha256.Sum256([]byte(fmt.Sprint(append([]any{"wechatsim", seed}, parts...)...)))
}

// filled completes an app from the seed and its position, and panics when it contradicts itself.
func (conf App) filled(seed uint64, position int) App {
	or := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	h := derive(seed, "app", position, conf.Name)
	text := hex.EncodeToString(h[:])
	if conf.Kind == "" {
		conf.Kind = MiniProgram
	}
	or(&conf.AppID, "wx"+text[:16])
	or(&conf.Name, conf.AppID)
	or(&conf.OriginalID, "gh_"+text[16:28])
	secret := derive(seed, "secret", conf.AppID)
	or(&conf.Secret, hex.EncodeToString(secret[:16]))
	or(&conf.Token, "tk"+text[40:56])
	key := derive(seed, "aes", conf.AppID)
	or(&conf.EncodingAESKey, alnum(base64.StdEncoding.EncodeToString(key[:])[:43]))
	or((*string)(&conf.Mode), string(Secure))
	if conf.Kind == OfficialAccount {
		or((*string)(&conf.Format), string(XML))
	}
	or((*string)(&conf.Format), string(JSON))
	or((*string)(&conf.Shape), string(Captured))
	if len(conf.Templates) == 0 {
		conf.Templates = defaultTemplates(conf.Kind)
	}
	for i := range conf.Templates {
		t := &conf.Templates[i]
		if t.Type == 0 {
			t.Type = OneTime
		}
		id := derive(seed, "template", conf.AppID, t.Title)
		or(&t.ID, base64.RawURLEncoding.EncodeToString(id[:]))
	}
	if conf.PrepayUses == 0 {
		conf.PrepayUses = 3
	}
	if conf.Overlap == 0 {
		conf.Overlap = 5 * time.Minute
	}
	if conf.TokenLife == 0 {
		conf.TokenLife = 2 * time.Hour
	}
	if _, err := aesKey(conf.EncodingAESKey); err != nil {
		panic(fmt.Sprintf("wechatsim: app %s: %v", conf.Name, err))
	}
	return conf
}

// alnum maps the two characters of base64 that the settings page never shows to letters.
func alnum(s string) string { return strings.NewReplacer("+", "p", "/", "s").Replace(s) }

// defaultTemplates is the library of an app that brings none: one of every kind the product knows.
func defaultTemplates(k Kind) []Template {
	if k == OfficialAccount {
		return []Template{
			{Title: "订单发货提醒", Content: "订单号:{{character_string1.DATA}}\n商品:{{thing2.DATA}}\n", Example: "订单号:1234\n商品:苹果\n", OfOA: true},
			{Title: "活动通知", Content: "活动:{{thing1.DATA}}\n时间:{{time2.DATA}}\n", Example: "活动:开业\n时间:15:01\n"},
		}
	}
	return []Template{
		{Title: "订单发货通知", Content: "商品:{{thing1.DATA}}\n金额:{{amount2.DATA}}\n时间:{{time3.DATA}}\n",
			Example: "商品:苹果\n金额:¥100\n时间:2019年10月1日 15:01\n"},
		{Title: "审核结果通知", Content: "结果:{{phrase1.DATA}}\n日期:{{date2.DATA}}\n", Example: "结果:审核通过\n日期:2019-12-25\n"},
		{Title: "就诊提醒", Content: "患者:{{name1.DATA}}\n地点:{{thing2.DATA}}\n", Example: "患者:张三\n地点:门诊\n", Type: LongTerm},
		{Title: "保单状态通知", Content: "保单号:{{character_string1.DATA}}\n状态:{{enum_string2.DATA}}\n", Example: "保单号:P1\n状态:生效\n",
			Type: LongTerm, Enums: map[string][]string{"enum_string2": {"生效", "到期"}}, Frequency: 24 * time.Hour, FreqKey: "character_string1"},
		{Title: "购买成功通知", Content: "物品:{{keyword1.DATA}}\n价格:{{keyword2.DATA}}\n", Example: "物品:苹果\n价格:100元\n", Legacy: true},
	}
}
