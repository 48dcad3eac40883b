package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"go.uber.org/zap"
)

// certificate is what the ingress presents in TLS. It is safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger
	pair              atomic.Pointer[tls.Certificate]
}

// ReadCertificate returns the certificate that the ingress is to present, nil where it is to speak plain HTTP. Errors name
// the flags.
func (f IngressFlags) ReadCertificate() (*tls.Certificate, error) {
	switch {
	case f.TLSCert == "" && f.TLSKey == "":
		return nil, nil
	case f.TLSCert == "":
		return nil, &cli.FlagError{Flag: "--tls-cert", Fault: "is required with --tls-key"}
	case f.TLSKey == "":
		return nil, &cli.FlagError{Flag: "--tls-key", Fault: "is required with --tls-cert"}
	}
	return (&certificate{certFile: f.TLSCert, keyFile: f.TLSKey}).read(os.ReadFile)
}

// certificate returns nil where the ingress is to speak plain HTTP.
func (f IngressFlags) certificate(log *zap.Logger) (*certificate, error) {
	pair, err := f.ReadCertificate()
	if err != nil || pair == nil {
		return nil, err
	}
	c := &certificate{certFile: f.TLSCert, keyFile: f.TLSKey, log: log}
	c.pair.Store(pair)
	c.announce()
	return c, nil
}

// config is for TLS 1.3 and 1.2 with the suites that Go still has on by default.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }}
}

func (c *certificate) announce() {
	c.log.Info("TLS certificate", zap.String("event", "tls_certificate"), zap.Time("not_after", c.pair.Load().Leaf.NotAfter))
}

func (c *certificate) read(read func(path string) ([]byte, error)) (*tls.Certificate, error) {
	cert, err := read(c.certFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w: check the path and its permissions", err)
	}
	key, err := read(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-key: %w: check the path and its permissions", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w: give a PEM file with the certificate and those between it and the authority, and one with its key", err)
	}
	return &pair, nil
}

// follow takes new files over until ctx ends, so that a renewed certificate is used without a restart.
func (c *certificate) follow(ctx context.Context, all *files) {
	changed := make(chan struct{}, 1)
	cert, key := all.follow(c.certFile, changed), all.follow(c.keyFile, changed)
	defer all.release(cert)
	defer all.release(key)
	refused := "" // the last fault that was logged
	expiry := expiryWarning{c: c}
	look := time.NewTicker(expiryLook)
	defer look.Stop()
	for {
		expiry.warn()
		select {
		case <-look.C:
		case <-changed:
			fresh(cert, key) // one of them may be new, and the other written meanwhile
			err := c.reload(cert, key)
			if err != nil && err.Error() != refused {
				c.log.Error("TLS certificate not taken over", zap.String("event", "tls_error"), zap.Error(err), zap.Time("not_after", c.pair.Load().Leaf.NotAfter))
			}
			refused = fmt.Sprint(err)
		case <-ctx.Done():
			return
		}
	}
}

const (
	// expiryNotice is how long before its end a certificate is warned of, or a third of its life where that is less: what renews
	// certificates does so earlier, so one that is older was not renewed.
	expiryNotice = 14 * 24 * time.Hour
	// expiryAgain is the time between warnings, and expiryLook that between looks at the clock.
	expiryAgain, expiryLook = 24 * time.Hour, time.Hour
)

// expiryWarning warns of the end of the certificate that is in use. It belongs to one goroutine.
type expiryWarning struct {
	c      *certificate
	of     *tls.Certificate // that was warned of last
	warned time.Time
}

// warn logs that the certificate ends soon, or has ended, unless it did so within a day.
func (e *expiryWarning) warn() {
	pair, now := e.c.pair.Load(), time.Now()
	end := pair.Leaf.NotAfter
	left, notice := end.Sub(now), min(expiryNotice, end.Sub(pair.Leaf.NotBefore)/3)
	if left > notice || pair == e.of && now.Sub(e.warned) < expiryAgain {
		return
	}
	e.of, e.warned = pair, now
	fields := []zap.Field{zap.String("event", "certificate_expires"), zap.String("file", e.c.certFile), zap.Time("not_after", end)}
	if left <= 0 {
		e.c.log.Error("TLS certificate has expired, callers refuse it", append(fields, zap.Int64("left_h", 0))...)
		return
	}
	e.c.log.Warn("TLS certificate expires soon", append(fields, zap.Int64("left_h", int64(left.Hours())))...)
}

// reload takes the files over if they are good. Otherwise what was good before stays: one of the files may be new and the
// other about to be.
func (c *certificate) reload(cert, key *file) error {
	pair, err := c.read(func(path string) ([]byte, error) {
		if path == c.certFile {
			return cert.last()
		}
		return key.last()
	})
	switch {
	case err != nil:
		return err
	case slices.EqualFunc(pair.Certificate, c.pair.Load().Certificate, bytes.Equal): // and so is the key
		return nil
	case time.Now().After(pair.Leaf.NotAfter):
		return fmt.Errorf("--tls-cert: the certificate has expired at %s: renew it", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	c.pair.Store(pair)
	c.announce()
	return nil
}
