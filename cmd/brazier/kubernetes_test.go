package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var withSchemas = flag.Bool("schemas", false, "run kubectl-validate, with the schemas of Kubernetes and of the Prometheus Operator, over the files for Kubernetes")

const (
	kubectlValidate = "sigs.k8s.io/kubectl-validate@v0.0.4"
	oldestVersion   = "1.30" // of Kubernetes, as the head of kubernetes.yaml says
	// The module has the schema of PodMonitor among its examples; nothing of it is built.
	prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// podSelector chooses pods by their labels.
type podSelector struct {
	Labels map[string]string `yaml:"matchLabels"`
}

// object is what the tests here look at of one document of a file for Kubernetes.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Replicas *int
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Containers []podContainer
				Volumes    []struct {
					Name   string
					Secret struct {
						Name  string `yaml:"secretName"`
						Items []struct{ Key, Path string }
					}
				}
			}
		}
		Selector       podSelector
		PodSelector    podSelector           `yaml:"podSelector"`
		ScaleTargetRef struct{ Name string } `yaml:"scaleTargetRef"`
		Ingress        []struct{ Ports []portOfRule }
		Egress         []struct{ Ports []portOfRule }
		Endpoints      []struct{ Port, Path string } `yaml:"podMetricsEndpoints"`
		Metrics        []struct {
			Pods struct{ Metric struct{ Name string } }
		}
	}
}

type portOfRule struct{ Port any }

// podContainer is a container as kubernetes.yaml and nats-values.yaml have it.
type podContainer struct {
	Args      []string
	Env       []map[string]any
	Resources struct {
		Requests, Limits map[string]string
	}
	Ports  []struct{ Name string }
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// readObjects returns the documents of a file by kind and name.
func readObjects(t *testing.T, name string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for d := yaml.NewDecoder(strings.NewReader(read(t, "../../deploy/"+name))); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[o.Kind+"/"+o.Metadata.Name] = o
	}
}

// Policies, autoscalers, disruption budgets and the monitor concern the pods that there are, and ports that these have.
func TestKubernetesSelectors(t *testing.T) {
	objects := readObjects(t, "kubernetes.yaml")
	maps.Copy(objects, readObjects(t, "podmonitor.yaml"))
	selected := map[string][]string{} // a deployment to the kinds of what concerns its pods
	for name, o := range objects {
		labels := o.Spec.PodSelector.Labels
		if o.Kind == "PodDisruptionBudget" || o.Kind == "PodMonitor" {
			labels = o.Spec.Selector.Labels
		}
		for _, role := range []string{"ingress", "worker"} {
			deployment := objects["Deployment/brazier-"+role]
			pods := deployment.Spec.Template.Metadata.Labels
			isOf := len(labels) > 0
			for key, value := range labels {
				isOf = isOf && pods[key] == value
			}
			if !isOf && o.Spec.ScaleTargetRef.Name != "brazier-"+role {
				continue
			}
			selected[role] = append(selected[role], o.Kind)
			var ports []string
			for _, p := range deployment.Spec.Template.Spec.Containers[0].Ports {
				ports = append(ports, p.Name)
			}
			var wanted []string
			for _, rule := range o.Spec.Ingress {
				for _, p := range rule.Ports {
					wanted = append(wanted, fmt.Sprint(p.Port))
				}
			}
			for _, e := range o.Spec.Endpoints {
				wanted = append(wanted, e.Port)
			}
			for _, port := range wanted {
				if !slices.Contains(ports, port) {
					t.Errorf("%s: %s has no port %s", name, role, port)
				}
			}
			if o.Kind == "NetworkPolicy" && !slices.Equal(wanted, ports) {
				t.Errorf("%s: allows ports %v of %v", name, wanted, ports)
			}
		}
	}
	for _, role := range []string{"ingress", "worker"} {
		kinds := slices.Sorted(slices.Values(selected[role]))
		if want := []string{"HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"}; !slices.Equal(kinds, want) {
			t.Errorf("%s has %v, want %v", role, kinds, want)
		}
	}
	for name, o := range objects {
		if o.Kind != "Deployment" {
			continue
		}
		if o.Spec.Replicas != nil {
			t.Errorf("%s: applying the file would undo what the autoscaler did", name)
		}
		if c := o.Spec.Template.Spec.Containers[0]; c.Resources.Requests["cpu"] == "" || c.Resources.Limits["memory"] == "" {
			t.Errorf("%s: the autoscaler needs a request of cpu, and Go a limit of memory", name)
		}
	}
}

// Secrets are files, and each role has its own only: those that the commands at the top of the file make.
func TestKubernetesSecrets(t *testing.T) {
	head := read(t, "../../deploy/kubernetes.yaml")
	users := strings.Fields(regexp.MustCompile(`for user in ([a-z ]+);`).FindStringSubmatch(head)[1])
	for _, role := range []string{"ingress", "worker"} {
		spec := readObjects(t, "kubernetes.yaml")["Deployment/brazier-"+role].Spec.Template.Spec
		c := spec.Containers[0]
		if len(c.Env) > 0 {
			t.Errorf("%s: variables %v", role, c.Env)
		}
		flags := parseFlags(t, c.Args)
		files := map[string]string{} // of secrets, path to secret and key
		for _, v := range spec.Volumes {
			for _, m := range c.Mounts {
				if m.Name != v.Name {
					continue
				}
				for _, item := range v.Secret.Items {
					files[path.Join(m.Path, item.Path)] = v.Secret.Name + "/" + item.Key
				}
				if v.Secret.Name == "brazier-nats" && len(v.Secret.Items) != 1 {
					t.Errorf("%s: has the passwords of others", role)
				}
			}
		}
		if got := files[flags["nats-password-file"]]; got != "brazier-nats/"+role || flags["nats-user"] != role || !slices.Contains(users, role) {
			t.Errorf("%s: the password of %s comes from %q", role, flags["nats-user"], got)
		}
		if strings.Contains(flags["nats-url"], "@") {
			t.Errorf("%s: a password in %s", role, flags["nats-url"])
		}
	}
	for variable, v := range readNATSValues(t).Container.Env {
		m, _ := v.(map[string]any)
		if strings.HasSuffix(variable, "_PASSWORD") && !slices.ContainsFunc(users, func(user string) bool {
			return variable == "NATS_"+strings.ToUpper(user)+"_PASSWORD" &&
				fmt.Sprint(m) == fmt.Sprintf("map[valueFrom:map[secretKeyRef:map[key:%s name:brazier-nats]]]", user)
		}) {
			t.Errorf("nats-values.yaml: %s is %v", variable, v)
		}
	}
}

// natsValues is what is checked of deploy/nats-values.yaml.
type natsValues struct {
	Config struct {
		Cluster struct {
			Enabled  bool
			Replicas int
		}
		JetStream struct {
			Enabled     bool
			MemoryStore struct{ Enabled bool } `yaml:"memoryStore"`
			Merge       map[string]string
		} `yaml:"jetstream"`
		Merge map[string]string
	}
	Container struct {
		Image     struct{ Tag string }
		Env       map[string]any
		Resources struct{ Limits map[string]string }
	}
	PodTemplate         any                    `yaml:"podTemplate"`
	PodDisruptionBudget struct{ Enabled bool } `yaml:"podDisruptionBudget"`
	NATSBox             any                    `yaml:"natsBox"`
}

func readNATSValues(t *testing.T) (v natsValues) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/nats-values.yaml")), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The values for NATS's chart keep what nats.conf keeps, and give each variable of nats-users.conf. The chart is not here.
func TestNATSValues(t *testing.T) {
	text, v := read(t, "../../deploy/nats-values.yaml"), readNATSValues(t)
	if c := v.Config; !c.Cluster.Enabled || c.Cluster.Replicas != 3 || !c.JetStream.Enabled || !c.JetStream.MemoryStore.Enabled ||
		c.JetStream.Merge["sync_interval"] != "always" || !v.PodDisruptionBudget.Enabled {
		t.Errorf("%+v", v)
	}
	// The chart puts the file beside nats.conf, under the name by which that includes it.
	if file := v.Config.Merge["$include"]; file != "nats-users.conf" || !strings.Contains(text, `--set-file 'configMap.merge.data.`+strings.Replace(file, ".", `\.`, 1)+"="+file+"'") {
		t.Errorf("includes %q", file)
	}
	for _, m := range regexp.MustCompile(`(?m)^[^#\n]*\$(NATS_\w+)`).FindAllStringSubmatch(read(t, "../../deploy/nats-users.conf")+text, -1) {
		if v.Container.Env[m[1]] == nil {
			t.Errorf("no variable %s", m[1])
		}
	}
	for i := range v.Config.Cluster.Replicas {
		if route := fmt.Sprintf(`"nats://route:$(NATS_ROUTE_PASSWORD)@nats-%d.nats-headless:6222"`, i); !strings.Contains(fmt.Sprint(v.Container.Env["NATS_ROUTE_URLS"]), route) {
			t.Errorf("no route %s", route)
		}
	}
	for name, value := range v.Container.Env { // the chart sorts them, and Kubernetes replaces $(NAME) by those above alone
		for _, m := range regexp.MustCompile(`\$\((\w+)\)`).FindAllStringSubmatch(fmt.Sprint(value), -1) {
			if m[1] >= name {
				t.Errorf("%s comes before %s, which it needs", name, m[1])
			}
		}
	}
	server := regexp.MustCompile(`nats-server/v2 v(\S+)`).FindStringSubmatch(read(t, "../../go.mod"))[1]
	if v.Container.Image.Tag != server+"-alpine" {
		t.Errorf("image %s, tested is %s", v.Container.Image.Tag, server)
	}
	var limit, goLimit int
	if _, err := fmt.Sscanf(v.Container.Resources.Limits["memory"]+" "+fmt.Sprint(v.Container.Env["GOMEMLIMIT"]), "%dMi %dMiB", &limit, &goLimit); err != nil || goLimit != limit*4/5 {
		t.Errorf("GOMEMLIMIT is %d of %d MiB, error %v", goLimit, limit, err)
	}
}

// Kubernetes and the Prometheus Operator take the files, and would refuse them with a typing error.
func TestKubernetesSchemas(t *testing.T) {
	if !*withSchemas {
		return // .ci/run asks for it
	}
	list := exec.Command("go", "mod", "download", "-json", prometheusOperator)
	list.Dir = t.TempDir() // go.sum is not for it
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := regexp.MustCompile(`"Dir": "(.*)"`).FindSubmatch(out)
	validate := func(files ...string) (string, error) {
		out, err := exec.Command("go", append([]string{"run", kubectlValidate, "--version", oldestVersion,
			"--local-crds", filepath.Join(string(dir[1]), "example", "prometheus-operator-crd")}, files...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := validate("../../deploy/kubernetes.yaml", "../../deploy/podmonitor.yaml"); err != nil || strings.Count(out, "OK") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range []struct{ file, right, wrong string }{
		{"kubernetes.yaml", "readinessProbe:", "readynessProbe:"},
		{"kubernetes.yaml", "minReplicas: 2", "minReplicas: two"},
		{"kubernetes.yaml", "policyTypes:", "policyType:"},
		{"kubernetes.yaml", "scaleTargetRef:", "scaleTarget:"},
		{"podmonitor.yaml", "podMetricsEndpoints:", "podMetricsEndpoint:"},
		{"podmonitor.yaml", "interval: 15s", "interval: 15 seconds"},
	} {
		text := read(t, "../../deploy/"+c.file)
		if !strings.Contains(text, c.right) {
			t.Fatalf("%s has no %q", c.file, c.right)
		}
		file := filepath.Join(t.TempDir(), c.file)
		writeFile(t, file, strings.ReplaceAll(text, c.right, c.wrong))
		if out, err := validate(file); err == nil {
			t.Errorf("%s is taken with %q\n%s", c.file, c.wrong, out)
		} else {
			t.Logf("with %q: %s", c.wrong, out)
		}
	}
}

// adapterTest has a worker that uses its slots, one that waits, one that is too slow for a page, one that had no slot yet, and one of
// another namespace.
const adapterTest = `rule_files: [rules.yaml]
tests:
  - interval: 15s
    input_series:
      - {series: 'brazier_worker_circuit_open{namespace="b",pod="busy"}', values: '0x40'}
      - {series: 'brazier_worker_circuit_open{namespace="b",pod="idle"}', values: '0x40'}
      - {series: 'brazier_worker_circuit_open{namespace="b",pod="slow"}', values: '1x40'}
      - {series: 'brazier_worker_circuit_open{namespace="b",pod="new"}', values: '1x40'}
      - {series: 'brazier_worker_circuit_open{namespace="c",pod="slow"}', values: '0x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="busy",page="acme",result="used"}', values: '0+600x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="idle",page="acme",result="used"}', values: '700x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="idle",page="acme",result="unused"}', values: '7x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="slow",page="acme",result="used"}', values: '0+300x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="slow",page="acme",result="unused"}', values: '0+200x40'}
      - {series: 'brazier_worker_slots_total{namespace="b",pod="slow",page="other",result="used"}', values: '0+300x40'}
      - {series: 'brazier_worker_slots_total{namespace="c",pod="slow",page="acme",result="unused"}', values: '0+200x40'}
    promql_expr_test:
      - expr: brazier_worker_slots_unused_ratio
        eval_time: 9m
        exp_samples:
          - {labels: 'brazier_worker_slots_unused_ratio{pod="busy"}', value: 0}
          - {labels: 'brazier_worker_slots_unused_ratio{pod="idle"}', value: 0}
          - {labels: 'brazier_worker_slots_unused_ratio{pod="slow"}', value: 0.25}
          - {labels: 'brazier_worker_slots_unused_ratio{pod="new"}', value: 0}
`

// The rule for the Prometheus Adapter, in the comment of kubernetes.yaml, gives the autoscaler the part of a worker's slots that went unused.
func TestPromtoolAdapter(t *testing.T) {
	var lines []string
	for line := range strings.Lines(read(t, "../../deploy/kubernetes.yaml")) {
		if text, ok := strings.CutPrefix(line, "#   "); ok && (len(lines) > 0 || text == "rules:\n") {
			lines = append(lines, text)
		} else if len(lines) > 0 {
			break
		}
	}
	var adapter struct {
		Rules struct {
			Custom []struct {
				SeriesQuery  string `yaml:"seriesQuery"`
				Name         struct{ As string }
				MetricsQuery string `yaml:"metricsQuery"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(strings.Join(lines, "")), &adapter); err != nil || len(adapter.Rules.Custom) != 1 {
		t.Fatalf("%v in\n%s", err, strings.Join(lines, ""))
	}
	rule := adapter.Rules.Custom[0]
	metrics := readObjects(t, "kubernetes.yaml")["HorizontalPodAutoscaler/brazier-worker"].Spec.Metrics
	if name := metrics[len(metrics)-1].Pods.Metric.Name; name != rule.Name.As {
		t.Errorf("the autoscaler asks for %q, the adapter gives %q", name, rule.Name.As)
	}
	guide := read(t, "../../deploy/README.md") // which TestMetricNames holds against /metrics
	for _, name := range regexp.MustCompile(`brazier_\w+`).FindAllString(rule.SeriesQuery+rule.MetricsQuery, -1) {
		if !isNamed(guide, name) {
			t.Errorf("%s is no metric", name)
		}
	}
	if !*withPromtool {
		return // .ci/run asks for it
	}
	series, _, _ := strings.Cut(rule.SeriesQuery, "{")
	query := strings.NewReplacer("<<.Series>>", series, "<<.LabelMatchers>>", `namespace="b",pod=~"busy|idle|slow|new"`, "<<.GroupBy>>", "pod").Replace(rule.MetricsQuery)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "rules.yaml"), fmt.Sprintf("groups: [{name: adapter, rules: [{record: %s, expr: %q}]}]\n", rule.Name.As, query))
	writeFile(t, filepath.Join(dir, "test.yaml"), adapterTest)
	check := exec.Command("promtool", "test", "rules", "test.yaml")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
