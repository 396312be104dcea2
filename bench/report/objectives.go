package report

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

//go:embed objectives.yaml
var defaultObjectives []byte

const maxObjectives = 1 << 20 // bytes of a file of objectives

// ObjectiveError is one mistake in a file of objectives.
type ObjectiveError struct {
	File string
	Line int // counted from one
	Want string
}

// Error names the place first, as compilers do.
func (e *ObjectiveError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Want) }

// DefaultObjectives are the promises of the requirements as floors, with our aims beside them.
func DefaultObjectives() ([]Objective, error) {
	return ParseObjectives("objectives.yaml", defaultObjectives)
}

// ReadObjectives reads a YAML file of objectives. Its error has every mistake with file and line.
func ReadObjectives(path string) ([]Objective, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the objectives: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxObjectives+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the objectives: %w", err)
	}
	return ParseObjectives(path, b)
}

// ParseObjectives reads YAML: a list, each item with metric, name, better (lower or higher), unit and floor, and maybe row and aim.
// Nothing else may be there, and no metric twice.
func ParseObjectives(file string, b []byte) ([]Objective, error) {
	if len(b) > maxObjectives {
		return nil, &ObjectiveError{file, 1, fmt.Sprintf("larger than %d bytes", maxObjectives)}
	}
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, yamlError(file, 1, err)
	}
	if len(tree.Docs) != 1 {
		return nil, &ObjectiveError{file, 1, "expected one YAML document: a list of objectives"}
	}
	list, ok := tree.Docs[0].Body.(*ast.SequenceNode)
	if !ok {
		return nil, &ObjectiveError{file, 1, "expected a list of objectives, each with metric, name, better, unit and floor"}
	}
	var found []error
	var out []Objective
	lines := make(map[string]int)
	for _, node := range list.Values {
		o, line, err := parseObjective(file, node)
		if err != nil {
			found = append(found, err)
			continue
		}
		if before, twice := lines[o.Metric]; twice {
			found = append(found, &ObjectiveError{file, line, fmt.Sprintf("%s has an objective on line %d already", o.Metric, before)})
		}
		lines[o.Metric] = line
		out = append(out, *o)
	}
	return out, errors.Join(found...)
}

func yamlError(file string, line int, err error) error {
	e := &ObjectiveError{file, line, err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Want = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
	}
	return e
}

func parseObjective(file string, node ast.Node) (*Objective, int, error) {
	if node == nil {
		return nil, 0, &ObjectiveError{file, 1, "expected an objective, got nothing"}
	}
	line := 1
	if t := node.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		return nil, line, &ObjectiveError{file, line, "expected an objective: keys and values"}
	}
	var y struct {
		Metric string   `yaml:"metric"`
		Name   string   `yaml:"name"`
		Row    string   `yaml:"row"`
		Better Better   `yaml:"better"`
		Unit   string   `yaml:"unit"`
		Floor  *float64 `yaml:"floor"`
		Aim    float64  `yaml:"aim"`
	}
	if err := yaml.NodeToValue(node, &y, yaml.Strict()); err != nil {
		return nil, line, yamlError(file, line, err)
	}
	fail := func(format string, args ...any) (*Objective, int, error) {
		return nil, line, &ObjectiveError{file, line, fmt.Sprintf(format, args...)}
	}
	switch {
	case !regexp.MustCompile(`^[a-z0-9_*-]+(\.[a-z0-9_*-]+)*$`).MatchString(y.Metric):
		return fail("metric %q: expected an ID such as delivery.delay.p99; * stands for anything within a part", y.Metric)
	case y.Name == "":
		return fail("%s: expected a name for people", y.Metric)
	case y.Better != Lower && y.Better != Higher:
		return fail("%s: better %q: expected lower or higher", y.Metric, y.Better)
	case y.Unit == "":
		return fail("%s: expected a unit: s, B, 1/s, B/s, B/h, ratio, %% or a noun", y.Metric)
	case y.Floor == nil:
		return fail("%s: expected a floor: the figure that is promised", y.Metric)
	case !isFinite(*y.Floor) || !isFinite(y.Aim):
		return fail("%s: expected finite numbers", y.Metric)
	}
	o := &Objective{Metric: y.Metric, Name: y.Name, Row: y.Row, Better: y.Better, Unit: y.Unit, Floor: *y.Floor, Aim: y.Aim}
	if o.Aim != 0 && !o.holds(o.Aim, o.Floor) {
		return fail("%s: the aim %g is easier to reach than the floor %g", y.Metric, o.Aim, o.Floor)
	}
	return o, line, nil
}
