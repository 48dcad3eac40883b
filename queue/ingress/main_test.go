package ingress_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue/queuetest"
)

// What the tests send, and what no log line and no answer may contain.
const (
	acmeKey     = "brazier-key-of-acme"
	acmeNextKey = "second-brazier-key-of-acme"
	nordwindKey = "brazier-key-of-nordwind"
	unknownKey  = "key-that-no-page-has"
	psid        = "7418529630741852"
	greeting    = "Your parcel is on its way to you"
)

const (
	acme     = "1029384756"
	nordwind = "5647382910"
)

// Of the app of the webhooks in webhook_events.jsonl.
const (
	appSecret   = "app-secret-for-tests"
	oldSecret   = "app-secret-before-that-one"
	verifyToken = "verify-token-of-the-app"
)

const messages = "/v25.0/me/messages"

// nested is a body as a Braze template makes it.
const nested = `{"recipient":{"id":"` + psid + `"},"messaging_type":"UPDATE","message":{"text":"` + greeting + `"}}`

func confidential() []string {
	return []string{acmeKey, acmeNextKey, nordwindKey, unknownKey, psid, greeting, appSecret, oldSecret, verifyToken,
		"7003141592653589", "7002718281828459", "Is the blue one back in stock?"} // the last three are of webhook_events.jsonl
}

// output gets all log lines and answers of this test run.
var output = leakDetector{secrets: confidential()}

// leakDetector keeps the writes that contain a secret. It is safe for concurrent use.
type leakDetector struct {
	secrets []string

	mu    sync.Mutex
	leaks []string
}

func (t *leakDetector) Write(p []byte) (int, error) {
	text := string(p)
	if slices.ContainsFunc(t.secrets, func(s string) bool { return strings.Contains(text, s) }) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.leaks = append(t.leaks, text)
	}
	return len(p), nil
}

func (t *leakDetector) Sync() error { return nil }

func (t *leakDetector) found() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaks
}

// logger returns a logger of all levels that writes JSON to the leakDetector.
func (t *leakDetector) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), t, zap.DebugLevel))
}

// TestMain fails the run if any test wrote a secret to output.
func TestMain(m *testing.M) {
	if config := os.Getenv(configOfChild); config != "" {
		if err := runNATS(config); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	runInParallel()
	goleak.VerifyTestMain(m, append(queuetest.Strays(), goleak.Cleanup(func(code int) {
		for _, leak := range output.found() {
			fmt.Fprintf(os.Stderr, "a log line or an answer contains a key, a PSID or a message text: %s\n", leak)
			code = max(code, 1)
		}
		os.Exit(code)
	}))...)
}

// runInParallel lets eight tests run at one time unless -parallel says otherwise. Most of the time these tests wait, for timeouts
// and for what a Server does when it ends, so the default of one test for each processor leaves the processors idle.
func runInParallel() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", "8") // a number cannot be refused
	}
}

func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	for _, secret := range confidential() {
		detector := leakDetector{secrets: confidential()}
		log := detector.logger()
		log.Info("harmless", zap.String("recipient", "…"+psid[len(psid)-4:]))
		if found := detector.found(); len(found) != 0 {
			t.Fatalf("found in a harmless line: %q", found)
		}
		log.Debug("careless", zap.String("detail", "refused "+secret+" as it is"))
		if len(detector.found()) != 1 {
			t.Errorf("%q was logged and not found", secret)
		}
	}
}
