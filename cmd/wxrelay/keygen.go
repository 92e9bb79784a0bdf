package main

import (
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"math/big"
)

var keygenCommand = command{
	name: "keygen", args: "", summary: "fresh secrets, as YAML lines for the config",
	help: `
token and encoding_aes_key go into WeChat's console and apps[].push; webhook_secret into a partner's or endpoint's
secrets and into that system; master_key into the config or master_key_file. Every call makes new ones.`,
	run: func(p *program, fs *flag.FlagSet, args []string) error {
		if _, err := parse(fs, args); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "token: %s\nencoding_aes_key: %s\nwebhook_secret: whsec_%s\nmaster_key: %s\n",
			letters(32), letters(42)+pick(lastOfKey), base64.StdEncoding.EncodeToString(random(32)), base64.StdEncoding.EncodeToString(random(32)))
		return nil
	},
}

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// The 43rd character of an EncodingAESKey holds the last 4 bits of 32 bytes and 2 bits of nothing, which are 0 here:
	// strict base64 decoders refuse anything else.
	lastOfKey = "AEIMQUYcgkosw048"
)

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(rand.Reader, b) // never fails: https://pkg.go.dev/crypto/rand#Read
	return b
}

func pick(from string) string {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(len(from))))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return from[i.Int64() : i.Int64()+1]
}

func letters(n int) string {
	out := make([]byte, 0, n)
	for range n {
		out = append(out, pick(alphanumeric)...)
	}
	return string(out)
}
