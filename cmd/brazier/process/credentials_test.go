package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"go.uber.org/zap"
)

// A new token in the file is used without a restart; what is wrong meanwhile is an error without the secret in it.
func TestCredentialsFollowTheirFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newFiles(zap.NewNop())
		defer all.close()
		s := pagefile.Secrets{TokenFile: filepath.Join(pageDir(t), "acme.token")}
		cred := all.credentials(s)
		fresh(cred.files()...)
		expect := func(token string) {
			t.Helper()
			if cred, err := cred.current(); err != nil || cred.Token != token {
				t.Errorf("the token is not %s, error %v", token, err)
			}
		}
		expect(marker + "-token-of-acme")
		writeFile(t, s.TokenFile, marker+"-next-token")
		expect(marker + "-token-of-acme") // not read for each call
		<-time.After(readEvery + 1)
		expect(marker + "-next-token")

		writeFile(t, s.TokenFile, marker+" "+marker)
		<-time.After(readEvery)
		if cred, err := cred.current(); err == nil || cred.Token != "" {
			t.Error("a broken token is used")
		} else {
			keepsSecrets(t, err.Error(), marker)
		}
		writeFile(t, s.TokenFile, marker+"-last-token")
		all.readAll() // as after SIGHUP
		synctest.Wait()
		eventuallyIs(t, marker+"-last-token", func() string { cred, _ := cred.current(); return cred.Token })
	})
}

// eventuallyIs polls: a read of a file ends when the disk has it, which synctest.Wait does not wait for.
func eventuallyIs(t *testing.T, want string, is func() string) {
	t.Helper()
	for range 100 {
		if is() == want {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Errorf("it is not %s", want)
}

// marker stands in every secret of these tests, and in no message.
const marker = "MARKER"

// pageDir is a directory with secrets, beside which a page file is put.
func pageDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"acme.token":  marker + "-token-of-acme\n",
		"acme.secret": marker + "-secret-of-acme\n",
		"empty.token": " \n",
		"two.token":   marker + "-token\n" + marker + "-and-another\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keepsSecrets fails the test if what was written holds any of the secrets.
func keepsSecrets(t *testing.T, written string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if i := strings.Index(written, s); i >= 0 {
			from, to := max(0, i-200), min(len(written), i+len(s)+50)
			t.Errorf("%q was written: …%s…", s, written[from:to])
		}
	}
}
