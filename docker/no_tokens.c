/* Stands in for libp11-kit, which GnuTLS reaches hardware tokens through: in the image there is no
 * module that it could load, and it would be an eighth of it. A "pkcs11:" address is no address
 * here, and there are no modules; what could only be asked of a module or of an address is never
 * reached, and says that it found nothing. That every function is here is the linker's to say. */
#include <p11-kit/p11-kit.h>
#include <p11-kit/pin.h>
#include <p11-kit/uri.h>

#include <stddef.h>

/* --- addresses ------------------------------------------------------------------------------ */

P11KitUri *p11_kit_uri_new(void)
{
    return NULL;
}

void p11_kit_uri_free(P11KitUri *uri)
{
}

int p11_kit_uri_parse(const char *string, P11KitUriType type, P11KitUri *uri)
{
    return P11_KIT_URI_BAD_SCHEME;
}

int p11_kit_uri_format(P11KitUri *uri, P11KitUriType type, char **string)
{
    return P11_KIT_URI_UNEXPECTED;
}

CK_ATTRIBUTE_PTR p11_kit_uri_get_attribute(P11KitUri *uri, CK_ATTRIBUTE_TYPE type)
{
    return NULL;
}

CK_ATTRIBUTE_PTR p11_kit_uri_get_attributes(P11KitUri *uri, CK_ULONG *n)
{
    *n = 0;
    return NULL;
}

int p11_kit_uri_set_attribute(P11KitUri *uri, CK_ATTRIBUTE_PTR attribute)
{
    return P11_KIT_URI_UNEXPECTED;
}

CK_INFO_PTR p11_kit_uri_get_module_info(P11KitUri *uri)
{
    return NULL;
}

CK_TOKEN_INFO_PTR p11_kit_uri_get_token_info(P11KitUri *uri)
{
    return NULL;
}

int p11_kit_uri_match_module_info(const P11KitUri *uri, const CK_INFO *info)
{
    return 0;
}

int p11_kit_uri_match_token_info(const P11KitUri *uri, const CK_TOKEN_INFO *info)
{
    return 0;
}

const char *p11_kit_uri_get_pin_source(const P11KitUri *uri)
{
    return NULL;
}

const char *p11_kit_uri_get_pin_value(const P11KitUri *uri)
{
    return NULL;
}

/* --- modules -------------------------------------------------------------------------------- */

CK_FUNCTION_LIST **p11_kit_modules_load(const char *reserved, int flags)
{
    return NULL;
}

CK_FUNCTION_LIST *p11_kit_module_load(const char *path, int flags)
{
    return NULL;
}

CK_RV p11_kit_module_finalize(CK_FUNCTION_LIST *module)
{
    return CKR_OK;
}

void p11_kit_module_release(CK_FUNCTION_LIST *module)
{
}

char *p11_kit_module_get_name(CK_FUNCTION_LIST *module)
{
    return NULL;
}

int p11_kit_module_get_flags(CK_FUNCTION_LIST *module)
{
    return 0;
}

char *p11_kit_config_option(CK_FUNCTION_LIST *module, const char *option)
{
    return NULL;
}

const char *p11_kit_message(void)
{
    return NULL;
}

const char *p11_kit_strerror(CK_RV error)
{
    return "There are no PKCS#11 modules";
}

size_t p11_kit_space_strlen(const unsigned char *string, size_t most)
{
    return 0;
}

char *p11_kit_space_strdup(const unsigned char *string, size_t most)
{
    return NULL;
}

/* --- PINs ----------------------------------------------------------------------------------- */

P11KitPin *p11_kit_pin_new_for_string(const char *value)
{
    return NULL;
}

void p11_kit_pin_unref(P11KitPin *pin)
{
}

const unsigned char *p11_kit_pin_get_value(P11KitPin *pin, size_t *len)
{
    *len = 0;
    return NULL;
}

size_t p11_kit_pin_get_length(P11KitPin *pin)
{
    return 0;
}

int p11_kit_pin_register_callback(const char *source, p11_kit_pin_callback callback, void *data,
                                  p11_kit_pin_destroy_func destroy)
{
    return -1;
}

void p11_kit_pin_unregister_callback(const char *source, p11_kit_pin_callback callback, void *data)
{
}

P11KitPin *p11_kit_pin_request(const char *source, P11KitUri *uri, const char *what,
                               P11KitPinFlags flags)
{
    return NULL;
}

P11KitPin *p11_kit_pin_file_callback(const char *source, P11KitUri *uri, const char *what,
                                     P11KitPinFlags flags, void *data)
{
    return NULL;
}
