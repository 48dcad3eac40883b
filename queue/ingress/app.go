package ingress

import (
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"
)

// App is a Facebook app whose webhooks are taken. Its functions are called for each webhook, so that a secret that was replaced
// counts at once; they must be quick and safe for concurrent use, and their errors must hold no secret.
type App struct {
	Name string // how logs name the app
	// Secrets returns the app secrets whose signatures count: one, or several while one is replaced. Empty ones count for nothing.
	Secrets func() ([][]byte, error)
	// VerifyTokens returns the tokens with which Facebook may verify the URL of the webhook, as they were entered in the app
	// dashboard. Nil: it may not.
	VerifyTokens func() ([][]byte, error)
	// Pages are the ids of the pages whose events the app sends. Events of others are dropped.
	Pages []string
	// Receipts are those of Pages whose receipts of deliveries and reads are stored too.
	Receipts []string
}

// appFaults returns the faults of Config.Apps, each of them a *[ConfigError].
func appFaults(apps []App) (faults []error) {
	known := map[string]bool{}
	for _, a := range apps {
		refuse := func(format string, args ...any) {
			faults = append(faults, &ConfigError{"Apps", fmt.Sprintf("app %q: %s", a.Name, fmt.Sprintf(format, args...))})
		}
		switch {
		case a.Name == "":
			refuse("Name is required")
		case known[a.Name]:
			refuse("Name is used twice: give each app a name of its own")
		}
		known[a.Name] = true
		if a.Secrets == nil {
			refuse("Secrets is required")
		}
		for _, page := range a.Pages {
			if !isDigits(page) {
				refuse("Pages must be Facebook page ids, digits only (got %q)", page)
			}
		}
	}
	return faults
}

// SetApps replaces the apps whose webhooks are taken. It may be called at any time; without apps, webhooks are answered 404. After
// an error, a *[ConfigError] or several joined, the apps are as they were.
func (s *Server) SetApps(apps []App) error {
	if err := errors.Join(appFaults(apps)...); err != nil {
		return err
	}
	s.useApps(apps)
	return nil
}

// useApps is SetApps for apps without a fault.
func (s *Server) useApps(apps []App) {
	if len(apps) == 0 {
		s.apps.Store(nil)
		return
	}
	known := &knownApps{unknown: map[string]bool{}}
	for _, a := range apps {
		pages := make(map[string]bool, len(a.Pages))
		for _, page := range a.Pages {
			pages[page] = true
		}
		receipts := make(map[string]bool, len(a.Receipts))
		for _, page := range a.Receipts {
			receipts[page] = true
		}
		known.apps = append(known.apps, &knownApp{a, pages, receipts})
	}
	s.apps.Store(known)
}

// knownApp is an app in use.
type knownApp struct {
	App
	pages    map[string]bool
	receipts map[string]bool // of pages
}

// knownApps are the apps in use.
type knownApps struct {
	apps []*knownApp

	mu      sync.Mutex
	unknown map[string]bool // pages that no app has and that were logged
}

// maxUnknown bounds how many unknown pages are logged, and remembered as logged.
const maxUnknown = 100

// logUnknown says once for each page that its events are dropped.
func (k *knownApps) logUnknown(log *zap.Logger, app *knownApp, page string) {
	k.mu.Lock()
	known := k.unknown[page] || len(k.unknown) >= maxUnknown
	if !known {
		k.unknown[page] = true
	}
	k.mu.Unlock()
	if !known {
		log.Warn("events of a page are dropped: the app has no such page", zap.String("event", "webhook_unknown_page"),
			zap.String("app", app.Name), zap.String("page_id", page))
	}
}
