#!/bin/sh
# Signs a program or a disk image for macOS, has Apple check it, and fastens the answer to it:
#
#   sh packaging/macos/sign.sh dist/small/Attnscope.app
#   sh packaging/macos/sign.sh dist/attnscope-small-0.1.0-macos-arm64.dmg
#
# From the environment:
#   SIGNING_IDENTITY   name of a "Developer ID Application" certificate in the keychain
#   NOTARY_PROFILE     name under which `xcrun notarytool store-credentials` has kept the account
set -eu

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

thing=${1:-}
[ -n "$thing" ] || fail "Usage: sh sign.sh PROGRAM.app or IMAGE.dmg"
[ -e "$thing" ] || fail "$thing is not there."
[ "$(uname -s)" = Darwin ] || fail "Signing for macOS needs a Mac."
[ -n "${SIGNING_IDENTITY:-}" ] || fail "SIGNING_IDENTITY is not set: nothing was signed. It names a Developer ID Application certificate."
[ -n "${NOTARY_PROFILE:-}" ] || fail "NOTARY_PROFILE is not set: nothing was signed. See xcrun notarytool store-credentials."

entitlements=$(dirname "$0")/entitlements.plist
case $thing in
*.app)
    # From the inside out, as codesign wants it; --deep would sign libraries with the program's entitlements.
    find "$thing/Contents" -type f \( -name '*.dylib' -o -name '*.so' \) -exec \
        codesign --force --timestamp --options runtime --sign "$SIGNING_IDENTITY" {} +
    codesign --force --timestamp --options runtime --entitlements "$entitlements" --sign "$SIGNING_IDENTITY" "$thing"
    codesign --verify --strict --deep "$thing"
    sent=$(mktemp -d)/program.zip
    ditto -c -k --keepParent "$thing" "$sent"
    ;;
*.dmg)
    codesign --force --timestamp --sign "$SIGNING_IDENTITY" "$thing"
    sent=$thing
    ;;
*) fail "$thing is neither a program (.app) nor a disk image (.dmg)." ;;
esac
xcrun notarytool submit "$sent" --keychain-profile "$NOTARY_PROFILE" --wait
xcrun stapler staple "$thing"
xcrun stapler validate "$thing"
