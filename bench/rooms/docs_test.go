package rooms

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/reconcile"
)

// documents are the repository's pages: README and what lies under docs.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	add := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pages[path] = string(b)
	}
	add(filepath.Join(root(t), "README.md"))
	err := filepath.WalkDir(filepath.Join(root(t), "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			add(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// anchors are the names that a page's headings have in links.
func anchors(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := strings.ToLower(regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(m[1], ""))
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}

// TestLinksLead follows every link inside the repository.
func TestLinksLead(t *testing.T) {
	pages := documents(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for path, page := range pages {
		for _, m := range link.FindAllStringSubmatch(page, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(pages[to]), anchor) {
				t.Errorf("%s links to %s, which has no such heading", path, m[1])
			}
		}
	}
}

// TestGoldenFilesAreThere looks for the files that pages about formats name, and for pages about formats that the entry page lacks.
func TestGoldenFilesAreThere(t *testing.T) {
	pages := documents(t)
	named := regexp.MustCompile("`((?:engine|cluster)/[^` ]*testdata/[^` ]+)`")
	for path, page := range pages {
		for _, m := range named.FindAllStringSubmatch(page, -1) {
			if found, err := filepath.Glob(filepath.Join(root(t), m[1])); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
	}
	entry := pages[filepath.Join(root(t), "docs", "formats.md")]
	for path := range pages {
		if filepath.Base(filepath.Dir(path)) == "formats" && !strings.Contains(entry, "(formats/"+filepath.Base(path)) {
			t.Errorf("docs/formats.md does not mention %s", path)
		}
	}
}

// TestReconcileMetricsAreDocumented looks for each figure about contradicting folders on the operators' page.
func TestReconcileMetricsAreDocumented(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(new(reconcile.Service).Metrics())
	families, err := r.Gather()
	if err != nil || len(families) == 0 {
		t.Fatalf("%d figures, %v", len(families), err)
	}
	page := documents(t)[filepath.Join(root(t), "docs", "operations.md")]
	for _, f := range families {
		if !strings.Contains(page, "`"+f.GetName()+"`") {
			t.Errorf("docs/operations.md lacks %s", f.GetName())
		}
	}
}
