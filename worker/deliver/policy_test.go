package deliver

import (
	"testing"

	"github.com/brazier-relay/brazier/sendapi"
)

func TestEveryClassHasAPolicy(t *testing.T) {
	for _, class := range sendapi.Classes() {
		if _, ok := policies[class]; !ok {
			t.Errorf("class %s has no policy", class)
		}
	}
	if len(policies) != len(sendapi.Classes()) {
		t.Errorf("%d policies for %d classes", len(policies), len(sendapi.Classes()))
	}
}
