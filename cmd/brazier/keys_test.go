package main

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		code, out, complaints := runCommand(t, "keys", "new")
		if code != cli.ExitOK || !regexp.MustCompile(`^brazier_[A-Z2-7]{26,}\nsha256:[0-9a-f]{64}\n$`).MatchString(out) {
			t.Fatalf("code %d, out %q", code, out)
		}
		key, digest, _ := strings.Cut(strings.TrimSpace(out), "\n")
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key))); digest != want {
			t.Errorf("digest %s, want %s", digest, want)
		}
		if seen[key] {
			t.Errorf("%s was made twice", key)
		}
		seen[key] = true
		keepsSecrets(t, complaints, key)
	}
}
