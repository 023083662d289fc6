/* Jansson's codes as phrases; what it says of syntax is plain as it is. */
#include "server/json_fault.h"

const char *sv_json_fault(const json_error_t *fault)
{
    switch (json_error_code(fault)) {
    case json_error_null_character:
        return "a string holds the character \\u0000, which is not taken";
    case json_error_null_byte_in_key:
        return "a name holds the character \\u0000, which is not taken";
    case json_error_numeric_overflow:
        return "a number is too large";
    case json_error_invalid_utf8:
        return "it is not UTF-8";
    case json_error_stack_overflow:
        return "it is nested too deep";
    case json_error_end_of_input_expected:
        return "nothing may follow here";
    default:
        return fault->text;
    }
}
