package app

import (
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// NewWeChat makes a client that shares its tokens with the gateway of the same config and store; its loops do not run.
func NewWeChat(rdb redis.UniversalClient, c *config.Config) (*wechat.Client, error) {
	p, err := planOf(c)
	if err != nil {
		return nil, err
	}
	seal, unseal := p.keys.at(tokenPlace)
	return wechat.New(rdb, wechat.Options{BaseURL: c.WeChat.BaseURL, Fallback: c.WeChat.FallbackURL, Timeout: c.WeChat.Timeout,
		Apps: p.wechat, Encrypt: seal, Decrypt: unseal})
}
