"""Whether a file was made here: for anybody, without a key."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from api.parsers import read_form
from api.resource import Resource
from tenants.accounts.api_admission import Admission
from tenants.errors import Invalid
from tenants.pipeline.audits import public_check, shapes


class CheckForm(serializers.Serializer):
    file = serializers.FileField(help_text="A picture, clip or sound.")


class Check(Resource):
    """No key is asked for, and one that is sent is not looked at: the answer depends on the file alone."""

    authentication_classes = ()
    permission_classes = ()
    parser_classes = (MultiPartParser,)

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        if not settings.PUBLIC_CHECK:
            raise Http404
        super().initial(request, *args, **kwargs)

    def count(self, request: Request) -> Admission:
        return public_check.admit(str(request.META.get("REMOTE_ADDR", "")))

    @extend_schema(
        summary="Check whether a file was made here",
        description=(
            "Looks for this installation's content credentials (C2PA) and invisible marks in a picture, clip or sound. "
            "Nothing of the file is kept. Where the installation does not offer it, 404."
        ),
        request={"multipart/form-data": CheckForm},
        responses=shapes.PublicCheck,
        extensions={"x-problems": [404]},
    )
    def post(self, request: Request) -> Response:
        form = read_form(request, files=("file",), json_fields=())
        if form.fields:
            raise ValidationError({name: ["There is no such field."] for name in form.fields})
        if "file" not in form.files:
            raise Invalid("Send the file in the form's field `file`.", pointer="/file")
        return Response(public_check.check_file(form.files["file"]))
