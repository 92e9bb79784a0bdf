package binding

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// CredentialKind is where a legacy credential comes from.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/template-message.html
type CredentialKind string

// The kinds.
const (
	FormID   CredentialKind = "form_id"   // one form submission, one message
	PrepayID CredentialKind = "prepay_id" // one payment, one or three messages: the sources disagree by date
)

// What may be wrong with the pool.
var (
	ErrMock  = errors.New("binding: not a credential WeChat gave out")
	ErrEmpty = errors.New("binding: no credential left")
)

const (
	credentialTime = 7 * 24 * time.Hour
	credentialsMax = 200 // per openid, used ones included; beyond it the oldest go, which would expire first
	usesMax        = 100
)

// Credential lets one legacy template message through per use.
type Credential struct {
	Kind    CredentialKind
	ID      string
	Uses    int       // when added: 1 unless said otherwise; when taken: what is left after it
	Expires time.Time // 7 days after it was added
}

// AddCredential puts one into the pool of (app, openid). added is false when it was there before, used or not, so that
// a repeated report makes nothing usable twice. ErrMock for what the developer tools and failed calls put in a
// form_id's place.
func (b *Book) AddCredential(ctx context.Context, app, openid string, c Credential) (added bool, err error) {
	id := strings.TrimPrefix(c.ID, "prepay_id=") // as wx.requestPayment's package has it
	if c.Kind != FormID && c.Kind != PrepayID || !Genuine(id) {
		return false, ErrMock
	}
	at := openidTag(app, openid)
	v, err := b.run(ctx, addScript, []string{at + "p", at + "h"}, id, string(c.Kind), min(max(c.Uses, 1), usesMax), credentialTime.Milliseconds(), credentialsMax)
	return v == int64(1), err
}

// Genuine tells a form_id or prepay_id from what stands in its place. WeChat's are one word of printable ASCII. In their place come "the formId is a mock one" (developer tools),
// "the formId is no longer available in develop or trial version", "requestFormId:fail ..." and scripts' undefined.
func Genuine(id string) bool {
	if id == "" || len(id) > 128 || id == "undefined" || id == "null" || strings.HasPrefix(id, "requestFormId:") {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// Take takes one use of the oldest credential (of kind, "" = any) for holder. The same holder gets the same credential
// again until GiveBack or Spoil, so that a crash between taking and sending spends one, not two. ErrEmpty.
func (b *Book) Take(ctx context.Context, app, openid string, kind CredentialKind, holder string) (Credential, error) {
	at := openidTag(app, openid)
	v, err := b.run(ctx, takeScript, []string{at + "p", at + "h"}, holder, string(kind))
	if err != nil {
		return Credential{}, err
	}
	r := words(v)
	if len(r) != 4 {
		return Credential{}, ErrEmpty
	}
	uses, err1 := strconv.Atoi(r[2])
	ms, err2 := strconv.ParseInt(r[3], 10, 64)
	return Credential{Kind: CredentialKind(r[1]), ID: r[0], Uses: uses, Expires: time.UnixMilli(ms).UTC()}, errors.Join(err1, err2)
}

// Any tells whether a use is left that nobody took.
func (b *Book) Any(ctx context.Context, app, openid string) (bool, error) {
	at := openidTag(app, openid)
	v, err := b.run(ctx, anyScript, []string{at + "p", at + "h"})
	return v == int64(1), err
}

// GiveBack returns the use holder took: WeChat refused the send for another reason. Nothing held: nothing happens.
func (b *Book) GiveBack(ctx context.Context, app, openid, holder string) error {
	at := openidTag(app, openid)
	_, err := b.run(ctx, backScript, []string{at + "p", at + "h"}, holder, "1")
	return err
}

// Spoil drops the credential holder took with all its uses: WeChat says it is used up or invalid. Nothing held: nothing
// happens.
func (b *Book) Spoil(ctx context.Context, app, openid, holder string) error {
	at := openidTag(app, openid)
	_, err := b.run(ctx, backScript, []string{at + "p", at + "h"}, holder, "0")
	return err
}

// The pool is two hashes that live as long as the youngest credential:
//
//	p  id -> kind,left,total,expires ms,serial     (a used one stays until it expires: it is known)
//	h  holder -> id
//
// poolHead reads the first, drops what has expired, and gives the credentials to what follows.
const poolHead = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all, count, last = {}, 0, 0
local raw = redis.call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do
  local kind, left, total, exp, n = raw[i + 1]:match('^([%w_]+),(%d+),(%d+),(%d+),(%d+)$')
  if tonumber(exp) <= now then
    redis.call('HDEL', KEYS[1], raw[i])
  else
    all[raw[i]] = {kind = kind, left = tonumber(left), total = tonumber(total), exp = tonumber(exp), n = tonumber(n)}
    count, last = count + 1, math.max(last, tonumber(n))
  end
end
local held = redis.call('HGETALL', KEYS[2])
for i = 1, #held, 2 do
  if not all[held[i + 1]] then redis.call('HDEL', KEYS[2], held[i]) end
end
local function write(id, c)
  redis.call('HSET', KEYS[1], id, string.format('%s,%d,%d,%.0f,%d', c.kind, c.left, c.total, c.exp, c.n))
end
local function oldest(fits)
  local best
  for id, c in pairs(all) do
    if fits(c) and (not best or c.n < all[best].n) then best = id end
  end
  return best
end
`

// addScript: KEYS credentials, holders; ARGV[1] id, ARGV[2] kind, ARGV[3] uses, ARGV[4] its ms, ARGV[5] how many are
// kept. Returns 1 when it was not there.
var addScript = redis.NewScript(poolHead + `
if all[ARGV[1]] then return 0 end
if count >= tonumber(ARGV[5]) then redis.call('HDEL', KEYS[1], oldest(function() return true end)) end
write(ARGV[1], {kind = ARGV[2], left = tonumber(ARGV[3]), total = tonumber(ARGV[3]), exp = now + ARGV[4], n = last + 1})
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1`)

// takeScript: KEYS credentials, holders; ARGV[1] holder, ARGV[2] kind or "". Returns {id, kind, left, expires ms} or
// nothing.
var takeScript = redis.NewScript(poolHead + `
local id = redis.call('HGET', KEYS[2], ARGV[1])
local c = id and all[id]
if not c then
  id = oldest(function(c) return c.left > 0 and (ARGV[2] == '' or ARGV[2] == c.kind) end)
  if not id then return false end
  c = all[id]
  c.left = c.left - 1
  write(id, c)
  redis.call('HSET', KEYS[2], ARGV[1], id)
  redis.call('PEXPIRE', KEYS[2], math.max(redis.call('PTTL', KEYS[1]), 1))
end
return {id, c.kind, tostring(c.left), string.format('%.0f', c.exp)}`)

// anyScript: KEYS credentials, holders. Returns 1 when Take would find one for a new holder.
var anyScript = redis.NewScript(poolHead + `
return oldest(function(c) return c.left > 0 end) and 1 or 0`)

// backScript: KEYS credentials, holders; ARGV[1] holder, ARGV[2] "1" to give the use back, "0" to drop the credential.
// Returns 1 when the holder held one.
var backScript = redis.NewScript(poolHead + `
local id = redis.call('HGET', KEYS[2], ARGV[1])
local c = id and all[id]
if not c then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
if ARGV[2] == '1' then
  if c.left < c.total then c.left = c.left + 1 end
else
  c.left, c.total = 0, 0
end
write(id, c)
return 1`)
