package cni

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// DocumentKey is the key of the configuration in the network configuration.
const DocumentKey = "configuration"

// ServeValidate runs the verb VALIDATE for the network configuration that it reads from in. Package skel does not know
// this verb.
func ServeValidate(log *slog.Logger, in io.Reader, run func(*skel.CmdArgs) error) *types.Error {
	err := WithErrorCodes(log, spec.Validate, func(args *skel.CmdArgs) error {
		var err error
		if args.StdinData, err = io.ReadAll(in); err != nil {
			return err
		}
		return run(args)
	})(&skel.CmdArgs{ContainerID: os.Getenv("CNI_CONTAINERID"), IfName: os.Getenv("CNI_IFNAME")})
	if err == nil {
		return nil
	}
	var answer *types.Error
	if !errors.As(err, &answer) {
		answer = types.NewError(types.ErrInternal, err.Error(), "")
	}
	return answer
}

// EncodeValidation writes the answer of VALIDATE. Errors that are nil are left out.
func EncodeValidation(w io.Writer, faults []error) error {
	answer := spec.Validation{CNIVersion: spec.CNIVersion, Faults: []spec.ValidationFault{}}
	for _, fault := range faults {
		if fault != nil {
			answer.Faults = append(answer.Faults, validationFault(fault))
		}
	}
	return json.NewEncoder(w).Encode(answer)
}

func validationFault(err error) spec.ValidationFault {
	below := func(key string) string {
		return strings.TrimPrefix(strings.TrimPrefix(key, DocumentKey+"."), DocumentKey+": ")
	}
	if fault, ok := err.(*spec.Fault); ok {
		return spec.ValidationFault{Key: below(fault.Key), Wrong: spec.Quote(fault.Value), Allowed: fault.Allowed}
	}
	text, allowed, _ := strings.Cut(err.Error(), ": allowed: ")
	if key, wrong, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(key, DocumentKey+".") {
		return spec.ValidationFault{Key: below(key), Wrong: wrong, Allowed: allowed}
	}
	return spec.ValidationFault{Wrong: below(text), Allowed: allowed}
}
