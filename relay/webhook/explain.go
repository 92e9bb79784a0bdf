package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// explain says why no whole answer came, in words a partner may read: no addresses, nothing of the URL.
func explain(err error) string {
	var (
		dns      *net.DNSError
		verify   *tls.CertificateVerificationError
		alert    tls.AlertError
		record   tls.RecordHeaderError
		timeout  net.Error
		hostname x509.HostnameError
	)
	switch {
	case errors.Is(err, errBlocked):
		return "blocked: " + reasonOf(err)
	case errors.Is(err, errTooLong):
		return errTooLong.Error()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "name not found"
	case errors.As(err, &dns):
		return "name resolution failed"
	case errors.As(err, &hostname):
		return "tls: certificate is for another name"
	case errors.As(err, &verify):
		return "tls: certificate not trusted"
	case errors.As(err, &alert):
		return "tls: " + alert.Error()
	case errors.As(err, &record):
		return "tls: not spoken there"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed early"
	}
	return "no valid answer"
}

// reasonOf is the part of a blocked dial's error that the guard wrote.
func reasonOf(err error) string {
	var dial *net.OpError
	if errors.As(err, &dial) {
		return dial.Err.Error()
	}
	return errBlocked.Error()
}
